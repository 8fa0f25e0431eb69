#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: mckey.sh VERBENA
#
# Two members of a multicast group get what a third process sends to it.
set -euo pipefail
# shellcheck source=tests/programs/rdma_cm.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/rdma_cm.bash"

readonly verbena=$1
members=()
trap 'kill "${members[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

# A group of this run's own.
group=239.$((RANDOM % 256)).$((RANDOM % 256)).$((RANDOM % 254 + 1))
joined() { grep -q 'joined dgid' "$work/$1"; }

for member in a b; do
  timeout "$limit" stdbuf -oL "$verbena" run -- mckey -m "$group" -b 127.0.0.1 -C 8 >"$work/$member" 2>&1 &
  members+=($!)
  until_true $! joined "$member"
done
timeout "$limit" "$verbena" run -- mckey -s -m "$group" -b 127.0.0.1 -C 8 >"$work/sender" 2>&1 || {
  show sender
  exit 1
}
for index in 0 1; do
  wait "${members[$index]}" || {
    show a
    show b
    exit 1
  }
done
grep 'data transfers complete' "$work/a" "$work/b"
