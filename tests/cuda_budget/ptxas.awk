# ptxas: from the demangled output of ptxas -v, one line per kernel and architecture:
# kernel architecture registers static_shared_bytes stack_bytes spilled_bytes
# Run behind short_name.awk.
function flush() {
  if (kernel != "") print kernel, arch, registers, shared, stack, spilled
  kernel = ""
}
/Compiling entry function/ {
  flush()
  split($0, quoted, "'")
  kernel = short_name(quoted[2])
  arch = quoted[4]
  registers = shared = stack = spilled = "?"
}
/bytes stack frame/ && kernel != "" {
  stack = $1
  spilled = $5 + $9
}
/: Used [0-9]+ registers/ && kernel != "" {
  registers = $5
  shared = 0
  for (i = 1; i < NF - 1; i++)
    if ($(i + 2) ~ /^smem/) shared = $i
}
END { flush() }
