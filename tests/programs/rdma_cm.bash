# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the tests of programs that meet by rdma_cm.

# shellcheck disable=SC2034  # seconds for one process, used where this is sourced
readonly limit=60
work=$(mktemp -d) # removed by who sources this

listening() { # PORT: an rdma_cm id of this user listens there (a socket's flags say so)
  grep -qE " 00010000 .* @verbena/rdma_cm/[0-9]+/$(id -u)/[0-9a-f]+/$1/" /proc/net/unix
}
taken() { # PORT: an rdma_cm id of this user has it
  grep -qE " @verbena/rdma_cm/[0-9]+/$(id -u)/[0-9a-f]+/$1/" /proc/net/unix
}

# Not below the ports that are given to those who don't ask: a test's own.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    taken "$port" || break
  done
  echo "$port"
}

short_rest() { read -rt 0.02 <> <(:) || true; }

# until_true PROCESS COMMAND...: waits for COMMAND to succeed; fails where PROCESS ends first.
until_true() {
  local process=$1
  shift
  until "$@"; do
    kill -0 "$process" 2>/dev/null || return 1 # by its own limit at the latest
    short_rest
  done
}

show() { echo "---- $1"; tail -n 40 "$work/$1"; }
