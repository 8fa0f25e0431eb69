#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: refused.sh REFUSALS DEVICE [PREFIX...]
#
# REFUSALS has lines of a pattern and a command (tabulator between them), with DEVICE for the
# device. Each command, behind PREFIX, must end by itself, fail, and print a line that matches:
# a device refuses as others do.
set -euo pipefail
readonly refusals=$1 device=$2
shift 2

wrong=0 number=0
while IFS=$'\t' read -r expected command; do
  number=$((number + 1)) status=0
  # shellcheck disable=SC2086  # words
  output=$(timeout 20 "$@" ${command//DEVICE/$device} 2>&1 </dev/null) || status=$?
  if ((status != 0 && status != 124)) && grep -qE -- "$expected" <<<"$output"; then
    printf '%-50s refused: %s\n' "$command" "$(grep -m 1 -E -- "$expected" <<<"$output")"
  else
    printf '%-50s WRONG: ended with %d; expected: %s\n' "$command" "$status" "$expected"
    tail -n 5 <<<"$output" | sed 's/^/    /'
    wrong=$((wrong + 1))
  fi
done <"$refusals"
echo "$number commands, $wrong of them not refused as expected"
((wrong == 0 && number > 0))
