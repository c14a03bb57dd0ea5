#!/bin/sh
# test_cuda_budget [--update] [BUILD]: holds every CUDA kernel to budget.txt and instructions.txt, and the table of
# docs/kernels.md to budget.txt and kernels.txt; first it shows with planted mistakes that it can fail.
# What needs nvcc is skipped where the build folder has no CUDA objects, what needs cuobjdump and nvdisasm where these are
# missing (the toolkit, or jobs/fetch_cuda.sh --tools). --update writes budget.txt and the table anew.
set -eu
case ${1:-} in
--help | -h)
  sed -n '2,5s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
update=no
[ "${1:-}" != --update ] || { update=yes && shift; }
build=${1:-${BUILD:-$root/build/cuda}}
page=$root/docs/kernels.md
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

reads() { # SCRIPT: awk with short_name
  c++filt | awk -f "$here/short_name.awk" -f "$here/$1.awk" | LC_ALL=C sort -u
}

made_with() { # BUDGET: the compiler
  sed -n 's/^# made with \(nvcc [0-9.]*\).*/\1/p' "$1"
}

# MEASURED BUDGET COMPILER: what is above budget, or in one of the two only. Another compiler has other figures: with it
# only spills, stack and shared memory count.
compare() {
  awk -v made="$(made_with "$2")" -v compiler="$3" '
    /^#/ { next }
    FNR == NR { registers[$1 " " $2] = $3; next }
    {
      key = $1 " " $2
      seen[key] = 1
      if ($6 != 0 || $5 != 0) { print key ": " $6 " bytes spilled, " $5 " bytes of stack; neither is accepted"; bad = 1 }
      if ($4 != 0) { print key ": " $4 " bytes of static shared memory; only ptx::shared_memory() is allowed"; bad = 1 }
      if ($3 == "?" || $5 == "?") { print key ": ptxas did not say what it uses"; bad = 1 }
      else if (!(key in registers)) { print key ": not in the budget (" $3 " registers)"; bad = 1 }
      else if ($3 + 0 > registers[key] + 0 && made != compiler) n_worse++
      else if ($3 + 0 > registers[key] + 0) {
        print key ": " $3 " registers, the budget is " registers[key] " (made with " made ")"
        bad = 1
      }
      else if ($3 + 0 < registers[key] + 0) n_better++
    }
    END {
      for (key in registers)
        if (!(key in seen)) { print key ": in the budget, but not built"; bad = 1 }
      if (made != compiler)
        print "built by " compiler ", the budget is of " made ": more registers in " n_worse + 0 ", fewer in " n_better + 0
      else if (n_better) print n_better " kernels need fewer registers than the budget says: --update makes it tighter"
      exit bad
    }' "$2" "$1"
}

# FACTS RULES: kernels without an instruction that they must have, or with local memory.
instructions() {
  awk '
    /^#/ || NF == 0 { next }
    FNR == NR { n++; pattern[n] = "^" $1 "$"; arch[n] = $2; name[n] = $3; next }
    {
      for (i = 3; i <= NF; i++) {
        split($i, pair, "=")
        count[pair[1]] = pair[2]
      }
      if (count["LOCAL"] > 0) { print $1 " " $2 ": " count["LOCAL"] " accesses of local memory (LDL, STL)"; bad = 1 }
      if (count["IN_FLIGHT"] > 0) { print $1 " " $2 ": " count["IN_FLIGHT"] " uses of accumulators before their wait"; bad = 1 }
      for (i = 1; i <= n; i++)
        if ($1 ~ pattern[i] && (arch[i] == "any" || arch[i] == $2)) {
          used[i] = 1
          if (count[name[i]] == 0) { print $1 " " $2 ": has no " name[i]; bad = 1 }
        }
    }
    END {
      for (i = 1; i <= n; i++)
        if (!used[i]) { print pattern[i] " " arch[i] ": a rule for no kernel"; bad = 1 }
      exit bad
    }' "$2" "$1"
}

# PAGE BUDGET: the page with its table made anew.
with_table() {
  sed -n '1,/^<!-- table:/p' "$1"
  sh "$here/table.sh" "$here/kernels.txt" "$2"
  sed -n '/^<!-- end of table/,$p' "$1"
}

must_fail() { # WHAT PATTERN COMMAND...
  what=$1 pattern=$2
  shift 2
  if "$@" >"$folder/planted.out" 2>&1 || ! grep -q "$pattern" "$folder/planted.out"; then
    echo "planted: $what: was not found"
    cat "$folder/planted.out"
    exit 1
  fi
}

# ---- it can fail ----
cat >"$folder/ptxas.txt" <<'EOF'
ptxas info    : Compiling entry function '_ZN12_GLOBAL__N_111copy_kernelILi4EEEvPKfPf' for 'sm_80'
ptxas info    : Function properties for _ZN12_GLOBAL__N_111copy_kernelILi4EEEvPKfPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 416 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN12_GLOBAL__N_110sum_kernelEPf' for 'sm_80'
ptxas info    : Function properties for _ZN12_GLOBAL__N_110sum_kernelEPf
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 128 bytes smem, 400 bytes cmem[0]
EOF
reads ptxas <"$folder/ptxas.txt" >"$folder/measured"
printf 'copy_kernel<4> sm_80 40 0 0 0\nsum_kernel sm_80 32 128 8 16\n' >"$folder/want"
cmp "$folder/measured" "$folder/want" || { echo "the output of ptxas is read wrongly" && exit 1; }
must_fail "a spill" 'sum_kernel sm_80: 16 bytes spilled, 8 bytes of stack' compare "$folder/measured" "$folder/want" ""
must_fail "static shared memory" 'sum_kernel sm_80: 128 bytes of static' compare "$folder/measured" "$folder/want" ""
grep copy "$folder/want" >"$folder/one"
compare "$folder/one" "$folder/one" "" || exit 1
must_fail "a kernel that is gone" 'sum_kernel sm_80: in the budget, but' compare "$folder/one" "$folder/want" ""
must_fail "a new kernel" 'sum_kernel sm_80: not in the budget' compare "$folder/want" "$folder/one" ""
# The real budget with one figure lowered by one.
compiler=$(made_with "$here/budget.txt")
compare "$here/budget.txt" "$here/budget.txt" "$compiler" || exit 1
awk '!done && $1 !~ /^#/ { $3 = $3 - 1; done = 1 } { print }' "$here/budget.txt" >"$folder/lowered"
must_fail "a budget lowered by one" 'registers, the budget is' compare "$here/budget.txt" "$folder/lowered" "$compiler"

cat >"$folder/sass.txt" <<'EOF'
arch = sm_90a
		Function : _ZN12_GLOBAL__N_111copy_kernelILi4EEEvPKfPf
        /*0000*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;   /* 0x0 */
        /*0010*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24, gsb0 ; /* 0x0 */
        /*0020*/                   HGMMA.64x64x16.F32.BF16 R88, gdesc[UR8], RZ, !UPT, gsb0 ; /* 0x0 */
        /*0030*/                   FADD R23, R120, R121 ;                      /* 0x0 */
        /*0040*/                   WARPGROUP.DEPBAR.LE gsb0, 0x1 ;             /* 0x0 */
        /*0050*/                   FADD R87, R24, R25 ;                        /* 0x0 */
		Function : _ZN12_GLOBAL__N_110sum_kernelEPf
        /*0000*/                   LDG.E.64 R4, desc[UR4][R2.64] ;             /* 0x0 */
        /*0010*/                   LDL.LU R4, [R1] ;                           /* 0x0 */
arch = sm_100a
		Function : _ZN12_GLOBAL__N_110sum_kernelEPf
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;            /* 0x0 */
EOF
reads sass <"$folder/sass.txt" >"$folder/facts"
[ "$(cut -d ' ' -f 1,2 "$folder/facts" | tr '\n' ',')" = 'copy_kernel<4> sm_90a,sum_kernel sm_100a,sum_kernel sm_90a,' ] ||
  { echo "the output of cuobjdump is read wrongly" && exit 1; }
printf 'copy_kernel<.*> sm_90a LOAD128\ncopy_kernel<.*> any HGMMA\n' >"$folder/rules"
grep copy "$folder/facts" >"$folder/one"
instructions "$folder/one" "$folder/rules" || exit 1
sed 's/R120, R121/R120, R119/; s/R24, R25 ;/R24, R88 ;/' "$folder/sass.txt" | reads sass >"$folder/early"
must_fail "accumulators before their wait" 'copy_kernel<4> sm_90a: 2 uses' instructions "$folder/early" "$folder/rules"
must_fail "local memory" 'sum_kernel sm_90a: 1 accesses of local' instructions "$folder/facts" "$folder/rules"
echo 'sum_kernel any LOAD128' >>"$folder/rules"
must_fail "narrow loads" 'sum_kernel sm_90a: has no LOAD128' instructions "$folder/facts" "$folder/rules"
must_fail "a rule for nothing" 'sum_kernel.* any: a rule for no' instructions "$folder/one" "$folder/rules"

with_table "$page" "$here/budget.txt" >"$folder/page"
awk '!done && $1 == "layer_norm_kernel<row_shape<16,3>>" { $3 = $3 + 1; done = 1 } { print }' "$here/budget.txt" \
  >"$folder/other"
with_table "$page" "$folder/other" >"$folder/other_page"
! cmp -s "$folder/page" "$folder/other_page" || { echo "planted: another budget did not change the page" && exit 1; }

# ---- the kernels ----
skipped=""
if ls "$build"/cuda/*.ptxas.txt >/dev/null 2>&1; then
  cat "$build"/cuda/*.ptxas.txt | reads ptxas >"$folder/measured"
  compiler=$(grep -aoh 'release [0-9.]*, V[0-9.]*' "$build"/cuda/*_cuda.o | sed 's/.* V/nvcc /' | sort -u)
  if [ $update = yes ]; then
    {
      echo "# kernel, architecture, registers per thread, bytes of static shared memory, of stack, spilled"
      echo "# made with $compiler by: sh tests/cuda_budget/test_cuda_budget.sh --update BUILD"
      cat "$folder/measured"
    } >"$here/budget.txt"
  fi
  compare "$folder/measured" "$here/budget.txt" "$compiler"
  echo "$(wc -l <"$folder/measured") kernels (one per architecture) are within their budget"
else
  skipped="$build/cuda has no kernels (no nvcc, or not built)"
fi

PATH=$PATH:$root/build/cuda-toolkit/nvidia/cu13/bin:${CUDA_HOME:-/usr/local/cuda}/bin
if [ -n "$skipped" ]; then
  :
elif ! command -v cuobjdump >/dev/null || ! command -v nvdisasm >/dev/null; then
  skipped="cuobjdump or nvdisasm is missing (jobs/fetch_cuda.sh --tools)"
else
  for object in "$build"/cuda/*_cuda.o; do
    cuobjdump -sass "$object" 2>/dev/null || true # objects without kernels have nothing to list
  done | reads sass >"$folder/facts"
  # As many as ptxas compiled, or the listing was not understood.
  if [ "$(wc -l <"$folder/facts")" != "$(wc -l <"$folder/measured")" ]; then
    echo "cuobjdump lists $(wc -l <"$folder/facts") kernels, ptxas made $(wc -l <"$folder/measured")"
    exit 1
  fi
  instructions "$folder/facts" "$here/instructions.txt"
  echo "$(wc -l <"$folder/facts") kernels have the instructions that they must have, no local memory, no early accumulator"
fi

# ---- the page ----
with_table "$page" "$here/budget.txt" >"$folder/page"
[ $update = no ] || cp "$folder/page" "$page"
diff "$page" "$folder/page" || { echo "docs/kernels.md is not current: $0 --update" && exit 1; }
echo "docs/kernels.md is current"

[ -z "$skipped" ] || {
  echo "skipped: $skipped"
  exit 77
}
