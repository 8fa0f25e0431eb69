#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: exports_test.sh LIBRARY
#
# LIBRARY has each function of this machine's libibverbs that takes an object of a device, under the same symbol
# version: what is missing would be called with a soft0 that it knows nothing of. Those below take none.
set -euo pipefail
library=$1

readonly without_object='
__ioctl_final_num_attrs
ibv_copy_ah_attr_from_kern ibv_copy_path_rec_from_kern ibv_copy_path_rec_to_kern ibv_copy_qp_attr_from_kern
ibv_dofork_range ibv_dontfork_range ibv_fork_init ibv_is_fork_initialized
ibv_event_type_str ibv_node_type_str ibv_port_state_str ibv_wc_status_str
ibv_get_sysfs_path ibv_read_sysfs_file ibv_register_driver
ibv_import_device
ibv_rate_to_mbps ibv_rate_to_mult mbps_to_ibv_rate mult_to_ibv_rate
'

# NAME@VERSION of what a program that is linked today would find; not what rdma-core keeps to itself.
functions() { # LIBRARY
  nm -D --defined-only --with-symbol-versions "$1" | awk '$2 == "T" {print $3}' |
    grep -E '@@IBVERBS_[0-9.]+$' | sed 's/@@/@/' | sort -u
}

installed=$(ldd "$library" | awk '$1 ~ /^libibverbs\.so/ {print $3}')
[[ -e $installed ]] || { echo "$library isn't linked with libibverbs" >&2; exit 1; }
wanted=$(functions "$installed" | grep -vE "^($(xargs <<<"$without_object" | tr ' ' '|'))@")
[[ $(wc -l <<<"$wanted") -ge 40 ]] || { echo "$installed has hardly a function: $wanted" >&2; exit 1; }
missing=$(comm -23 <(echo "$wanted") <(functions "$library"))
if [[ -n $missing ]]; then
  echo "$installed has functions that $library doesn't stand in front of; add them to preload/exports.map:" >&2
  echo "$missing" >&2
  exit 1
fi
echo "$(wc -l <<<"$wanted") functions"
