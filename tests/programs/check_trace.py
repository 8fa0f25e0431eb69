#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: check_trace.py FILE

Reads a trace of RoCE v2 packets (pcap) and checks what tshark doesn't: each packet's
invariant CRC, the checksums of IPv4 and of UDP over IPv6, and that the packet sequence
numbers of each requester follow each other. Prints how many packets have which opcode.
"""
import collections
import struct
import sys
import zlib

READ_REQUEST = 0x0C
ANSWERS = set(range(0x0D, 0x13))  # read responses, acknowledgements


def fail(number, what):
    sys.exit(f"packet {number}: {what}")


def internet_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def check(number, frame, state, opcodes):
    kind = struct.unpack_from(">H", frame, 12)[0]
    packet = frame[14:]
    masked = bytearray(packet)
    if kind == 0x0800:
        ip = 20
        if internet_sum(packet[:ip]) != 0xFFFF:
            fail(number, "the IPv4 header's checksum is wrong")
        masked[1] = masked[8] = masked[10] = masked[11] = 0xFF
    else:
        ip = 40
        udp_length = struct.unpack_from(">H", packet, 4)[0]
        pseudo = packet[8:40] + struct.pack(">II", udp_length, 17)
        if internet_sum(pseudo + packet[ip:]) != 0xFFFF:
            fail(number, "UDP's checksum is wrong")
        masked[0] |= 0x0F
        masked[1:4] = b"\xff" * 3
        masked[7] = 0xFF
    masked[ip + 6] = masked[ip + 7] = 0xFF
    masked[ip + 12] = 0xFF
    crc = zlib.crc32(b"\xff" * 8 + bytes(masked[:-4]))
    if struct.pack("<I", crc) != packet[-4:]:
        fail(number, f"the invariant CRC is {packet[-4:].hex()}, not {struct.pack('<I', crc).hex()}")

    opcode = packet[ip + 8]
    queue_pair = struct.unpack_from(">I", packet, ip + 12)[0] & 0xFFFFFF
    psn = struct.unpack_from(">I", packet, ip + 16)[0] & 0xFFFFFF
    opcodes[opcode] += 1
    if opcode in ANSWERS or opcode >= 0x60:
        return
    expected = state.get(queue_pair)
    if expected is not None and psn != expected:
        fail(number, f"sequence number {psn} to queue pair {queue_pair}, where {expected} comes next")
    packets = 1
    if opcode == READ_REQUEST:  # a response's packets have numbers of their own
        length = struct.unpack_from(">I", packet, ip + 32)[0]
        packets = max(1, -(-length // state["mtu"]))
    state[queue_pair] = (psn + packets) & 0xFFFFFF


def main():
    data = open(sys.argv[1], "rb").read()
    state, opcodes = {"mtu": int(sys.argv[2]) if len(sys.argv) > 2 else 4096}, collections.Counter()
    at, number = 24, 0
    while at < len(data):
        kept = struct.unpack_from("<I", data, at + 8)[0]
        number += 1
        if at + 16 + kept > len(data):
            fail(number, "cut short")
        check(number, data[at + 16 : at + 16 + kept], state, opcodes)
        at += 16 + kept
    print(" ".join(f"{opcode}:{count}" for opcode, count in sorted(opcodes.items())))


main()
