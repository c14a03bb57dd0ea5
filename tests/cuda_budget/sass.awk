# sass: from the demangled output of cuobjdump -sass, one line per kernel and architecture:
# kernel architecture LOAD128=n HGMMA=n HMMA=n LOCAL=n      (LOCAL: loads and stores of local memory)
# LOAD128 counts 16-byte loads from global memory, to registers or (cp.async) to shared memory. Run behind short_name.awk.
function flush() {
  if (kernel != "") print kernel, arch, "LOAD128=" n_load, "HGMMA=" n_hgmma, "HMMA=" n_hmma, "LOCAL=" n_local
  kernel = ""
}
/^[ \t]*arch = / {
  flush()
  arch = $3
}
/^[ \t]*Function : / {
  flush()
  sub(/^[ \t]*Function : /, "")
  kernel = short_name($0)
  n_load = n_hgmma = n_hmma = n_local = 0
}
/^[ \t]*\/\*[0-9a-f]+\*\// {
  if ($0 ~ /[ \t](LDG|LDGSTS)\.E(\.[A-Z0-9_]+)*\.128/) n_load++
  if ($0 ~ /[ \t]HGMMA\./) n_hgmma++
  if ($0 ~ /[ \t]HMMA\./) n_hmma++
  if ($0 ~ /[ \t](LDL|STL)[. ]/) n_local++
}
END { flush() }
