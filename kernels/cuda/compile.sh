#!/bin/sh
# compile.sh LOG COMMAND...: runs nvcc and keeps what ptxas says in LOG. Remarks C75xx are errors: they say that ptxas
# ignored setmaxnreg or serialized wgmma, which costs half of the speed and changes no result.
set -u
log=$1
shift
"$@" 2>"$log.part"
status=$?
if [ $status -eq 0 ] && grep -q 'C75[0-9][0-9]' "$log.part"; then
  status=1
fi
if [ $status -ne 0 ]; then
  grep -v '^ptxas info *: *\(Used\|Compiling\|Function\|[0-9]* bytes\)' "$log.part" >&2
  rm -f "$log.part"
  exit $status
fi
mv "$log.part" "$log"
