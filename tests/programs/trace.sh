#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: trace.sh VERBENA MTU OPCODES PROGRAM [ARGUMENT...]
#
# Traces both sides of PROGRAM, as two_sides.sh runs it, into one file: tshark finds no
# malformed packet in it, the checksums and the sequence numbers are right (MTU: bytes of a
# packet, for reads), and each of OPCODES ("4 17", decimal) is there.
set -euo pipefail
here=$(dirname -- "${BASH_SOURCE[0]}")
readonly here verbena=$1 mtu=$2 opcodes=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

VERBENA_RUN_OPTIONS="--trace $work/out.pcap" "$here/two_sides.sh" "$verbena" '.' "$@" >"$work/log" || {
  cat "$work/log"
  exit 1
}
python3 "$here/check_trace.py" "$work/out.pcap" "$mtu" | tee "$work/counts"
# tshark guesses at what a payload is, and takes short ones for malformed RPC.
tshark --disable-protocol rpcordma -r "$work/out.pcap" -Y '_ws.malformed || _ws.expert.severity == error' 2>"$work/error" | head >"$work/bad"
if [[ -s $work/bad ]] || grep -q 'cut short' "$work/error"; then
  cat "$work/bad" "$work/error"
  exit 1
fi
tshark -r "$work/out.pcap" -T fields -e infiniband.bth.opcode 2>/dev/null | sort -n | uniq >"$work/seen"
for opcode in $opcodes; do
  grep -qx "$opcode" "$work/seen" || {
    echo "tshark sees no packet of opcode $opcode, but: $(tr '\n' ' ' <"$work/seen")"
    exit 1
  }
done
