#!/bin/sh
# table.sh KERNELS BUDGET: the table of docs/kernels.md. Occupancy: of one sm_90 (65,536 registers in units of 256 a warp,
# 228 KiB of shared memory, 1 KiB of it per block kept by the system, 64 warps, 32 blocks). Times: the larger of bytes /
# 2.85 TB/s and FLOPs / what kernels.txt calls reachable.
set -eu
export LC_ALL=C
grep -v '^#' "$1" | while IFS='|' read -r name instance bound bytes flops shape threads shared rate; do
  instance=$(echo $instance)
  # The formulas are arithmetic in the letters of the shape.
  n_bytes=$( (eval "$shape"; echo $(($bytes))) )
  n_flops=$( (eval "$shape"; echo $(($flops))) )
  echo "$name|$instance|$bound|$bytes|$flops|$shape|$threads|$shared|$rate|$n_bytes|$n_flops"
done | awk -F'|' -v budget="$2" '
  function trim(s) { gsub(/^ +| +$/, "", s); return s }
  function amount(n) {
    if (n >= 1e12) return sprintf("%.3g T", n / 1e12)
    if (n >= 1e9) return sprintf("%.3g G", n / 1e9)
    if (n >= 1e6) return sprintf("%.3g M", n / 1e6)
    return n >= 1e3 ? sprintf("%.3g k", n / 1e3) : n
  }
  function duration(s) { return s >= 1e-3 ? sprintf("%.3g ms", s * 1e3) : sprintf("%.3g us", s * 1e6) }
  function occupancy(registers, threads, shared,   warps, blocks, limit) {
    warps = int((threads + 31) / 32)
    blocks = int(64 / warps)
    if (blocks > 32) blocks = 32
    limit = int(int(65536 / (int((registers * 32 + 255) / 256) * 256)) / warps)
    if (limit < blocks) blocks = limit
    limit = int(228 * 1024 / (shared + 1024))
    if (limit < blocks) blocks = limit
    return blocks * warps " of 64"
  }
  BEGIN {
    while ((getline line < budget) > 0)
      if (line !~ /^#/) {
        split(line, f, " ")
        registers[f[1], f[2]] = f[3]
        spilled[f[1], f[2]] = f[6]
      }
    print "| kernel | bound by | bytes | FLOPs | registers 80 / 90a / 100a | spills | warps per SM | for | bytes, FLOPs there | predicted | measured |"
    print "|---|---|---|---|---|---|---|---|---|---|---|"
  }
  {
    for (i = 1; i <= NF; i++) $i = trim($i)
    if ($10 == "" || $11 == "") { print "table.sh: " $1 ": what is that: " $4 ", " $5 > "/dev/stderr"; exit 1 }
    use = warps = spills = "-"
    if ($2 != "-") {
      if (!(($2, "sm_90a") in registers)) { print "table.sh: " $2 " is not in the budget" > "/dev/stderr"; exit 1 }
      use = registers[$2, "sm_80"] " / " registers[$2, "sm_90a"] " / " registers[$2, "sm_100a"]
      spills = spilled[$2, "sm_80"] + spilled[$2, "sm_90a"] + spilled[$2, "sm_100a"]
      if ($8 != "-") warps = occupancy(registers[$2, "sm_90a"], $7, $8)
    }
    time = $10 / 2.85e12
    if ($9 != "-" && $9 != "none" && $11 / ($9 * 1e12) > time) time = $11 / ($9 * 1e12)
    gsub(/\*/, "\\*", $4); gsub(/\*/, "\\*", $5)
    gsub(/ /, ", ", $6)
    printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s, %s | %s | not yet |\n", $1, $3, $4, $5, use, spills, warps, $6, amount($10) "B", amount($11), $9 == "none" ? "-" : duration(time)
  }'
