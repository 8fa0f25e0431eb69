#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tests/harness/rxe_test.sh [NAME...]
#
# Tests scripts/rxe itself: what comes out of it, what it leaves behind, and that SoftRoCE
# works in it. Each test is a function named test_*; a NAME runs only that one.
# shellcheck disable=SC2317,SC2016  # tests are called by name; machines expand what is in quotes
set -euo pipefail
cd -- "$(dirname -- "$0")/../.."
readonly RXE=$PWD/scripts/rxe
folder=$(mktemp -d "${TMPDIR:-/tmp}/rxe test.XXXXXX") # with a space, on purpose
trap 'rm -rf "$folder"' EXIT

expect() { # WHAT EXPECTED ACTUAL
  [[ $2 == "$3" ]] || { printf '    %s: expected %q, got %q\n' "$@" && return 1; }
}

# Runs in a machine; leaves status, stdout and stderr.
run() {
  status=0
  "$RXE" --machine --timeout 120 "$@" >"$folder/out" 2>"$folder/err" || status=$?
  stdout=$(cat "$folder/out" && echo .) stdout=${stdout%.} # every newline counts
  stderr=$(<"$folder/err")
}

# No QEMU and no folder of a scripts/rxe with this TMPDIR.
expect_nothing_left() { # TMPDIR
  expect "folders left" "" "$(ls -A "$1")"
  expect "machines left" "" "$(pgrep -fa "qemu-system-x86_64.*$1" || true)"
}

test_status_and_output_come_back_exactly() {
  run bash -c 'printf "one\ntwo\r\n\001\377"; echo oops >&2; exit 42'
  expect status 42 "$status"
  expect stdout $'one\ntwo\r\n\001\377' "$stdout"
  expect stderr oops "$(tail -n +2 <<<"$stderr")"
  expect "own lines" 1 "$(grep -c '^rxe: in a virtual machine' <<<"$stderr")"
}

test_a_signal_and_a_missing_command_have_the_shell_s_status() {
  run bash -c 'kill -SEGV $$'
  expect status 139 "$status"
  run no-such-command
  expect status 127 "$status"
}

test_much_output_loses_nothing() {
  run seq 200000
  expect "sum of the lines" "$(seq 200000 | sha256sum)" "$(sha256sum <"$folder/out")"
}

test_odd_arguments_arrive_unchanged() {
  local odd=('a b' "it's" '$HOME' '*' '' $'two\nlines' $'\\' '"' '-n' 'ä')
  run printf '<%s>' "${odd[@]}"
  expect stdout "$(printf '<%s>' "${odd[@]}")" "$stdout"
}

test_the_folder_and_the_environment_are_the_caller_s() {
  mkdir "$folder/here"
  cd "$folder/here"
  VERBENA_ODD='x "y" $z' OTHER=no run bash -c 'printf "%s|%s|%s" "$PWD" "$VERBENA_ODD" "${OTHER-unset}"'
  expect stdout "$folder/here|x \"y\" \$z|unset" "$stdout"
}

test_only_the_share_keeps_what_is_written() {
  mkdir "$folder/share"
  run --rw "$folder/share" bash -c 'cd "$VERBENA_SHARE"; echo kept >kept; echo lost >../lost && cat ../lost'
  expect stdout $'lost\n' "$stdout"
  expect kept kept "$(<"$folder/share/kept")"
  [[ ! -e $folder/lost ]]
}

test_a_hung_machine_ends_by_the_limit() {
  # Booting takes three seconds, and four times that beside a busy neighbour.
  mkdir "$folder/tmp"
  TMPDIR=$folder/tmp run --timeout 20 bash -c 'echo begun; sleep 1000'
  expect status 124 "$status"
  expect stdout $'begun\n' "$stdout"
  [[ $stderr == *"ended after 20 seconds"* ]]
  expect_nothing_left "$folder/tmp"
}

test_a_dead_machine_shows_its_console() {
  run bash -c 'echo c >/proc/sysrq-trigger; sleep 1000'
  expect status 125 "$status"
  [[ $stderr == *"machine died"*"Kernel panic"* ]]
}

test_signals_leave_nothing() {
  local signal before
  mkdir "$folder/tmp"
  for signal in INT:130 TERM:143; do
    : >"$folder/out"
    # A job of a script ignores SIGINT; env gives it back, as a terminal's job has it.
    TMPDIR=$folder/tmp env --default-signal=INT "$RXE" --timeout 120 --machine bash -c 'echo up; sleep 1000' \
      >"$folder/out" 2>"$folder/err" &
    until grep -q up "$folder/out"; do
      kill -0 $! || { cat "$folder/err" >&2; return 1; }
      sleep 0.05
    done
    before=$SECONDS
    kill "-${signal%:*}" $!
    status=0
    wait $! || status=$?
    expect "status of $signal" "${signal#*:}" "$status"
    ((SECONDS - before <= 3)) || expect "seconds to end" 3 $((SECONDS - before))
    expect_nothing_left "$folder/tmp"
  done
}

test_a_killed_script_takes_its_machine_along() {
  local patience=100
  mkdir "$folder/tmp"
  TMPDIR=$folder/tmp "$RXE" --timeout 120 --machine bash -c 'echo up; sleep 1000' >"$folder/out" 2>"$folder/err" &
  until grep -q up "$folder/out"; do
    kill -0 $! || { cat "$folder/err" >&2; return 1; }
    sleep 0.05
  done
  kill -KILL $!
  { wait $! || true; } 2>/dev/null
  while pgrep -f "qemu-system-x86_64.*$folder/tmp" >/dev/null; do
    ((patience-- > 0))
    sleep 0.05
  done
}

test_two_at_once_do_not_collide() {
  "$RXE" --machine bash -c 'echo first; exit 3' >"$folder/first" 2>/dev/null &
  run bash -c 'echo second; exit 4'
  expect "second's" "4 second" "$status ${stdout%$'\n'}"
  status=0
  wait $! || status=$?
  expect "first's" "3 first" "$status $(<"$folder/first")"
}

test_a_limit_of_locked_memory_holds() {
  local reg_mr='ibv_rc_pingpong -d rxe1 -g 1 -s 4000000 -n 1'
  run --memlock 1024 bash -c "ulimit -l; $reg_mr"
  expect "status and limit" "1 1024" "$status ${stdout%%$'\n'*}"
  [[ $stderr == *"Couldn't register MR"* ]]
}

test_perftest_writes_between_two_processes() {
  run bash -c 'ib_write_lat -d rxe1 -x 1 -s 8 -n 500 >/dev/null &
    until ss -ltn | grep -q :18515; do sleep 0.02; done
    ib_write_lat -d rxe1 -x 1 -s 8 -n 500 10.9.0.1'
  expect status 0 "$status"
  [[ $stdout == *" 8       500 "* ]]
}

test_the_cable_carries_what_rxe1_and_rxe2_say() {
  run bash -c 'rping -s -a 10.9.0.1 -C 3 & rping_server=$!
    until rping -c -I 10.9.0.2 -a 10.9.0.1 -C 3; do sleep 0.1; done
    wait $rping_server; cat /sys/class/net/v0/statistics/tx_packets'
  expect status 0 "$status"
  ((stdout > 10)) || expect "packets on the cable" "more than 10" "$stdout"
}

test_two_hosts_ping_each_other() {
  run --hosts 2 bash -c 'if ((VERBENA_HOST == 0)); then
      rping -s -a "$VERBENA_RXE_ADDRESS" -C 3
    else
      until rping -c -a "$VERBENA_PEER" -C 3 -v 2>/dev/null; do sleep 0.1; done
    fi'
  expect status 0 "$status"
  expect pings 3 "$(grep -c '^\[1] ping data' <<<"$stdout")"
}

test_one_host_s_failure_is_the_status_of_both() {
  mkdir "$folder/tmp"
  TMPDIR=$folder/tmp run --hosts 2 bash -c 'exit $((VERBENA_HOST * 7))'
  expect status 7 "$status"
  expect_nothing_left "$folder/tmp"
}

test_a_device_of_the_host_is_used_as_it_is() {
  run "$RXE" bash -c 'echo "$VERBENA_RXE_DEVICE $VERBENA_RXE_ADDRESS"; exit 5'
  expect "status, device" "5 rxe1 10.9.0.1" "$status ${stdout%$'\n'}"
  [[ $stderr == *"on this host, with its device rxe1"* ]]
}

test_a_device_is_made_where_the_module_is_loaded() {
  run bash -c "rdma link delete rxe1; rdma link delete rxe2; ip link delete v0; '$RXE' cat /sys/class/infiniband/rxe1/ports/1/state"
  expect "status, state" "0 4: ACTIVE" "$status ${stdout%$'\n'}"
}

test_wrong_usage_says_what_is_wrong() {
  local wrong
  for wrong in '' '--hosts 3 true' '--timeout x true' '--timeout' '--rw /no/such true' '--frobnicate true'; do
    # shellcheck disable=SC2086  # these are words
    status=0 && "$RXE" $wrong 2>"$folder/err" || status=$?
    expect "status of '$wrong'" 2 "$status"
    expect "lines of '$wrong'" 1 "$(wc -l <"$folder/err")"
  done
}

names=("$@")
(($#)) || mapfile -t names < <(compgen -A function test_)
failures=0
for name in "${names[@]}"; do
  begin=$EPOCHREALTIME
  outcome=ok
  mkdir -p "$folder"
  # A test in a condition would lose its errexit, so it is waited for instead.
  (set -e; "$name") &
  wait $! || outcome=FAILED
  awk -v b="$begin" -v e="$EPOCHREALTIME" -v o="$outcome" -v n="$name" 'BEGIN {printf "%-6s %5.1f s  %s\n", o, e - b, n}'
  if [[ $outcome == FAILED ]]; then
    failures=$((failures + 1))
    sed 's/^/    /' "$folder/err" 2>/dev/null | tail -n 15
  fi
  find "$folder" -mindepth 1 -delete
done
exit $((failures > 0))
