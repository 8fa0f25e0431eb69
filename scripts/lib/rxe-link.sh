# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Making SoftRoCE devices. The same lines serve a host that has rdma_rxe and the machine
# that scripts/rxe boots. Needs root and iproute2.

# rxe takes the largest InfiniBand MTU that fits beside its headers: 4096 of 4200.
readonly RXE_NETDEV_MTU=4200

rxe_add() { # DEVICE NETDEV ADDRESS
  ip address add "$3/24" dev "$2" &&
    ip link set "$2" mtu "$RXE_NETDEV_MTU" up &&
    rdma link add "$1" type rxe netdev "$2"
}

# GID 1 is the IPv4-mapped one; it appears a moment after the address.
rxe_wait() { # DEVICE
  local port=/sys/class/infiniband/$1/ports/1 patience=500
  until grep -qs ACTIVE "$port/state" && grep -qs :ffff: "$port/gids/1"; do
    ((patience-- > 0)) || return 1
    sleep 0.02
  done
}

# Two devices on the two ends of one cable. Traffic between rxe1 and rxe2 crosses the
# cable, so that netem can harm it; traffic within one device never reaches it.
rxe_add_pair() {
  ip link add v0 type veth peer name v1 || return 1
  local name
  for name in all v0 v1; do
    echo 1 >"/proc/sys/net/ipv4/conf/$name/accept_local"
    echo 0 >"/proc/sys/net/ipv4/conf/$name/rp_filter"
  done
  ip link set v1 mtu "$RXE_NETDEV_MTU" up &&
    rxe_add rxe1 v0 10.9.0.1 && rxe_add rxe2 v1 10.9.0.2 &&
    rxe_wait rxe1 && rxe_wait rxe2
}
