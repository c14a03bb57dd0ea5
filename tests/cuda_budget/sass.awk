# sass: from the demangled output of cuobjdump -sass, one line per kernel and architecture:
# kernel architecture LOAD128=n HGMMA=n HMMA=n LOCAL=n IN_FLIGHT=n
# LOCAL: loads and stores of local memory. IN_FLIGHT: instructions that name an accumulator between the HGMMA that adds to
# it and the wait for its group, as the listing goes (whether the compilers kept what the emulator saw in the source).
# LOAD128 counts 16-byte loads from global memory, to registers or (cp.async) to shared memory. Run behind short_name.awk.
function flush() {
  if (kernel != "") print kernel, arch, "LOAD128=" n_load, "HGMMA=" n_hgmma, "HMMA=" n_hmma, "LOCAL=" n_local, "IN_FLIGHT=" n_in_flight
  kernel = ""
}
# Accumulators of the groups that are not waited for lie in low[1 .. n_open] .. high[]; is_closed: gsb0 ended the last one.
function multiplies(text, shape) {
  if (n_open == 0 || is_closed) n_open++
  match(text, /HGMMA\.64x[0-9]+/)
  shape = substr(text, RSTART + 9, RLENGTH - 9)
  match(text, /[ \t]R[0-9]+/)
  low[n_open] = substr(text, RSTART + 2, RLENGTH - 2) + 0
  high[n_open] = low[n_open] + shape / 2 - 1
  is_closed = text ~ /gsb0/
}
function waits(n_left, i) {
  for (i = 1; i <= n_left && n_open > n_left; i++) {
    low[i] = low[n_open - n_left + i]
    high[i] = high[n_open - n_left + i]
  }
  if (n_open > n_left) n_open = n_left
}
function names_accumulator(text, i, r) {
  sub(/;.*/, "", text)
  while (match(text, /[^A-Za-z0-9_]R[0-9]+/)) {
    r = substr(text, RSTART + 2, RLENGTH - 2) + 0
    for (i = 1; i <= n_open; i++)
      if (r >= low[i] && r <= high[i]) return 1
    text = substr(text, RSTART + RLENGTH)
  }
  return 0
}
/^[ \t]*arch = / {
  flush()
  arch = $3
}
/^[ \t]*Function : / {
  flush()
  sub(/^[ \t]*Function : /, "")
  kernel = short_name($0)
  n_load = n_hgmma = n_hmma = n_local = n_in_flight = n_open = 0
}
/^[ \t]*\/\*[0-9a-f]+\*\// {
  if ($0 ~ /[ \t](LDG|LDGSTS)\.E(\.[A-Z0-9_]+)*\.128/) n_load++
  if ($0 ~ /[ \t]HGMMA\./) {
    n_hgmma++
    multiplies($0)
  } else if ($0 ~ /WARPGROUP\.DEPBAR\.LE gsb0, 0x/) {
    match($0, /gsb0, 0x[0-9]/)
    waits(substr($0, RSTART + 8, 1) + 0)
  } else if (n_open > 0 && names_accumulator($0)) n_in_flight++
  if ($0 ~ /[ \t]HMMA\./) n_hmma++
  if ($0 ~ /[ \t](LDL|STL)[. ]/) n_local++
}
END { flush() }
