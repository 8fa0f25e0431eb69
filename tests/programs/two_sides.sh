#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: two_sides.sh VERBENA EXPECTED PROGRAM [ARGUMENT...]
#
# Runs PROGRAM under `verbena run` as two processes, a server and its client, which meet at a
# TCP port that PROGRAM takes by -p and at the server's address behind the client's arguments.
# Both must succeed, and the client must print a line that EXPECTED matches (a regular
# expression). SERVER_OPTIONS and CLIENT_OPTIONS (environment) go to that side alone;
# VERBENA_RUN_OPTIONS to both `verbena run`. VERBENA_PROGRAMS_DEVICE: the program runs by itself
# on that real device instead.
set -euo pipefail

readonly verbena=$1 expected=$2
shift 2
readonly limit=60 # seconds for one side
read -ra run_options <<<"${VERBENA_RUN_OPTIONS-}"
prefix=("$verbena" run "${run_options[@]}" --) device_options=()
if [[ -n ${VERBENA_PROGRAMS_DEVICE-} ]]; then
  prefix=() device_options=(-d "$VERBENA_PROGRAMS_DEVICE")
  # The GID of its IPv4 address; the last of an option counts.
  case $1 in
    ibv_*) device_options+=(-g 1) ;;
    *) device_options+=(-x 1) ;;
  esac
fi
work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

# Below the ports that Linux gives to those who don't ask.
first_port=20000 last_port=32000
listening() { # PORT: somebody listens there
  local hexadecimal
  hexadecimal=$(printf '%04X' "$1")
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$hexadecimal" '
    $4 == "0A" && substr($2, length($2) - 4) == port {found = 1}
    END {exit !found}'
}
free_port() {
  local port
  while :; do
    port=$((first_port + (RANDOM * 32768 + RANDOM) % (last_port - first_port)))
    listening "$port" || break
  done
  echo "$port"
}

start_server() { # sets port, server
  port=$(free_port)
  # shellcheck disable=SC2086  # words
  timeout "$limit" "${prefix[@]}" "$@" -p "$port" "${device_options[@]}" ${SERVER_OPTIONS-} >"$work/server" 2>&1 &
  server=$!
  until listening "$port"; do
    kill -0 "$server" 2>/dev/null || return 1 # it has ended, by its own bound at the latest
    read -rt 0.01 <> <(:) || true
  done
  read -rt 0.05 <> <(:) || true # if the port is another's, ours is ending now
  kill -0 "$server" 2>/dev/null
}

show() { echo "---- $1"; tail -n 40 "$work/$1"; }

# Another test may take the port between the look and the bind.
for _ in 1 2 3; do
  if start_server "$@"; then break; fi
  grep -qiE 'address already in use|listen|bind' "$work/server" || break
done

client_status=0 server_status=0
# shellcheck disable=SC2086
timeout "$limit" "${prefix[@]}" "$@" -p "$port" "${device_options[@]}" ${CLIENT_OPTIONS-} 127.0.0.1 >"$work/client" 2>&1 || client_status=$?
wait "$server" || server_status=$?
server=
if ((client_status || server_status)) || ! grep -qE -- "$expected" "$work/client"; then
  show server
  show client
  echo "---- the server ended with $server_status, the client with $client_status; expected of the client: $expected"
  exit 1
fi
grep -E -- "$expected" "$work/client" | tail -n 3
