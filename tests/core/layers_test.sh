#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: layers_test.sh REPOSITORY
# Includes point down only: each folder may include what stands in its line, and the system.
set -euo pipefail
cd "$1"
failures=0

sources() { find "$@" \( -name '*.h' -o -name '*.cc' -o -name '*.cpp' -o -name '*.hpp' \) -print 2>/dev/null; }

# FOLDER FORBIDDEN: no file below FOLDER includes a path that begins as FORBIDDEN, an extended regular expression.
forbid() {
  local found
  found=$(sources "$1" | xargs -r grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)" || true)
  [[ -z $found ]] && return
  printf 'an include of %s points up:\n%s\n' "$1" "$found" >&2
  failures=$((failures + 1))
}

forbid include 'core/|transport/|rpc/|tools/|tests/|bench/|infiniband/|rdma/|\.\./'
forbid core 'transport/|rpc/|tools/|tests/|bench/|support/|\.\./'
forbid transport 'rpc/|tools/|tests/|bench/|support/|\.\./'
forbid rpc 'tools/|tests/|bench/|support/|\.\./'
# What programs preload is the device and its forwarders.
forbid preload 'core/(soft/context|soft/queue_pair|hca_device)|transport/|rpc/|tools/|tests/|bench/'
for folder in tools examples; do
  [[ -d $folder ]] && forbid "$folder" 'core/|transport/|rpc/|infiniband/|rdma/|\.\./'
done

((failures == 0)) || exit 1
echo "includes point down only"
