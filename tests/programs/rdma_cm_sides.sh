#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: rdma_cm_sides.sh VERBENA EXPECTED SERVER CLIENT
#
# Runs the command lines SERVER and CLIENT under `verbena run`; PORT in them stands for a free
# port of rdma_cm's, or for FIXED_PORT (environment) of a program that takes none. Both must
# succeed, and the client must print a line that EXPECTED matches (a regular expression).
# SERVER "-": nobody listens, and the client must fail.
set -euo pipefail
# shellcheck source=tests/programs/rdma_cm.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/rdma_cm.bash"

readonly verbena=$1 expected=$2 server_words=$3 client_words=$4
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

start_server() {
  port=${FIXED_PORT-$(free_port)}
  # shellcheck disable=SC2086  # words
  timeout "$limit" "$verbena" run -- ${server_words//PORT/$port} >"$work/server" 2>&1 &
  server=$!
  until_true "$server" listening "$port"
}

run_both() { # sets client_status, server_status
  client_status=0 server_status=0
  if [[ $server_words == - ]]; then
    port=$(free_port)
  else
    # Another test may take the port between the look and the bind.
    for _ in 1 2 3 4 5; do
      if start_server; then break; fi
      grep -qiE 'address already in use|cannot assign|bind' "$work/server" || break
      short_rest
    done
  fi
  # shellcheck disable=SC2086
  timeout "$limit" "$verbena" run -- ${client_words//PORT/$port} >"$work/client" 2>&1 || client_status=$?
  if [[ $server_words == - ]]; then
    echo "nobody listens" >"$work/server"
    client_status=$((client_status != 0 ? 0 : 1))
    return
  fi
  ((client_status == 0)) || kill "$server" 2>/dev/null || true # it may wait for a client that has given up
  wait "$server" || server_status=$?
  server=
}

# perftest meets twice, and the server closes its listener in between: a client that is quicker than it finds
# nobody, on any device.
for _ in 1 2 3; do
  run_both
  if ((client_status == 0)) || [[ $client_words != ib_* ]]; then break; fi
  grep -qE 'RDMA_CM_EVENT_(UNREACHABLE|REJECTED)' "$work/client" || break
done
if ((client_status || server_status)) || ! grep -qE -- "$expected" "$work/client"; then
  show server
  show client
  echo "---- the server ended with $server_status, the client with $client_status; expected of the client: $expected"
  exit 1
fi
grep -E -- "$expected" "$work/client" | tail -n 3
