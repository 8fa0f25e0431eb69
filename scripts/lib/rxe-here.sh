# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# scripts/rxe on this host: finding an RDMA device, or making one, and running there.
# shellcheck disable=SC2154  # the options of scripts/rxe

# Prints a device that this process may open, SoftRoCE first.
usable_device() {
  local verbs
  for verbs in /sys/class/infiniband_verbs/uverbs*; do
    [[ -r /dev/infiniband/${verbs##*/} && -w /dev/infiniband/${verbs##*/} ]] && cat "$verbs/ibdev"
  done 2>/dev/null | sort | awk '/^rxe/ {print; found = 1; exit} {last = $0} END {if (!found && last) print last}'
}

device_address() { # DEVICE
  local netdev
  netdev=$(cat "/sys/class/infiniband/$1/ports/1/gid_attrs/ndevs/0" 2>/dev/null) &&
    ip -4 -brief address show dev "$netdev" | awk '{sub("/.*", "", $3); print $3}'
}

# Root may load the module. The devices then stay, so that the next run finds them.
make_device() {
  ((EUID == 0)) && have rdma && have ip || return 1
  [[ -e /sys/module/rdma_rxe ]] || modprobe --quiet rdma_rxe 2>/dev/null || return 1
  [[ ! -e /sys/class/net/v0 ]] && rxe_add_pair 2>/dev/null
}

# Leaves the process in machines[0].
start_here() { # DEVICE
  VERBENA_RXE_DEVICE=$1 VERBENA_RXE_ADDRESS=$(device_address "$1") VERBENA_SHARE=$share
  export VERBENA_RXE_DEVICE VERBENA_RXE_ADDRESS VERBENA_SHARE
  ulimit -l "$memlock" 2>/dev/null ||
    say "the limit of locked memory stays at $(ulimit -l) KiB; only root can set it to $memlock."
  setpriv --pdeathsig TERM timeout -k 2 "$limit" "${command[@]}" </dev/null &
  machines[0]=$!
}

run_here() { # DEVICE
  start_here "$1"
  local status=0
  wait "${machines[0]}" || status=$?
  ((status != 124)) || say "the command was ended after $limit seconds."
  return "$status"
}
