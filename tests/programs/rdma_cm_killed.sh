#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: rdma_cm_killed.sh VERBENA server|client
#
# Two rping processes exchange messages without end; one is killed in the middle. The other
# must hear at once that it is disconnected, and end by itself.
set -euo pipefail
# shellcheck source=tests/programs/rdma_cm.bash
source "$(dirname -- "${BASH_SOURCE[0]}")/rdma_cm.bash"

readonly verbena=$1 killed=$2
server='' client=''
trap 'kill -9 $server $client 2>/dev/null || true; rm -rf "$work"' EXIT

# exec: what is killed is rping itself.
start() { # NAME WORDS...
  local name=$1
  shift
  (exec "$verbena" run -- "$@") >"$work/$name" 2>&1 &
}
talking() { (($(grep -c 'ping data' "$work/client") > 20)); }

port=$(free_port)
start server rping -s -v -p "$port"
server=$!
until_true "$server" listening "$port"
start client stdbuf -oL rping -c -v -a 127.0.0.1 -p "$port" -C 100000000
client=$!
until_true "$client" talking

if [[ $killed == server ]]; then
  kill -9 "$server" && survivor=$client name=client
else
  kill -9 "$client" && survivor=$server name=server
fi
started=$SECONDS
while kill -0 "$survivor" 2>/dev/null; do
  if ((SECONDS - started > 10)); then
    show "$name"
    echo "---- the $name hasn't ended after 10 s"
    exit 1
  fi
  short_rest
done
if ! grep -qE 'DISCONNECT EVENT|DISCONNECTED|cq completion failed|status' "$work/$name"; then
  show "$name"
  exit 1
fi
tail -n 2 "$work/$name" | cut -c1-200
