#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: VERBENA_PROGRAMS_DEVICE=NAME on_device.sh PROGRAMS REFUSED
#
# Runs what the tests run on soft0 on a real device: PROGRAMS has lines of an expected line of
# output and a command (tabulator between them), as two_sides.sh wants them. Each must succeed
# as it does on soft0. But for those of REFUSED, of the same form: they must fail, with that
# line. So it is known where the devices differ, and it is noticed when that changes.
#
# What fails is tried twice more: perftest may sleep for ever over an event that came before it
# armed, on SoftRoCE as anywhere, and this is a test of neither.
set -euo pipefail
readonly programs=$1 refused=$2
: "${VERBENA_PROGRAMS_DEVICE:?names the device}"
folder=$(dirname -- "${BASH_SOURCE[0]}")

refusal_of() { # COMMAND: its line's pattern; nothing where it is to succeed
  awk -F '\t' -v command="$1" '$2 == command {print $1; exit}' "$refused"
}

wrong=0 number=0
while IFS=$'\t' read -r expected command; do
  [[ -n $command ]] || continue
  number=$((number + 1))
  refusal=$(refusal_of "$command")
  for attempt in 1 2 3; do
    # shellcheck disable=SC2086  # words
    if output=$("$folder/two_sides.sh" - "$expected" $command 2>&1); then has=success; else has=refusal; fi
    [[ -z $refusal && $has == refusal ]] || break
    echo "$command: try $attempt failed"
  done
  if [[ -z $refusal && $has == success ]]; then
    printf '%-50s as on soft0\n' "$command"
  elif [[ -n $refusal && $has == refusal ]] && grep -qE -- "$refusal" <<<"$output"; then
    printf '%-50s refused here: %s\n' "$command" "$(grep -m 1 -E -- "$refusal" <<<"$output")"
  else
    printf '%-50s WRONG: %s\n' "$command" "$has"
    tail -n 20 <<<"$output" | sed 's/^/    /'
    wrong=$((wrong + 1))
  fi
done <"$programs"
echo "$number programs, $wrong of them not as expected"
((wrong == 0 && number > 0))
