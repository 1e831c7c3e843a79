#!/usr/bin/env python3
"""Writes the frames in frame/: `./make.py` beside this file. Standard library only.

It shares no code with the node program, so that what it makes from the RFCs is a judge of what that makes. Each hostile frame
is a valid one with one thing wrong, its checksums right again, or it would fail for another reason.
"""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent / "frame"
A, B = bytes.fromhex("b827eb0011aa"), bytes.fromhex("b827eb0022bb")
ALL, GROUP = b"\xff" * 6, bytes.fromhex("01005e0000fb")
NONE, LEADER, MEMBER, EVERY, MDNS = "0.0.0.0", "192.168.200.1", "192.168.200.77", "255.255.255.255", "224.0.0.251"
SEAL = bytes(range(32))


def ip4(text):
    return bytes(int(part) for part in text.split("."))


def ones(data):
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ethernet(source, destination, kind, payload, shortest=60):
    return (destination + source + struct.pack("!H", kind) + payload).ljust(shortest, b"\0")


def ipv4(source, destination, payload, ttl, flags=0x4000, protocol=17, options=b"", total=None, damage=0):
    words = 5 + len(options) // 4
    length = 4 * words + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, 0, flags, ttl, protocol, 0) + ip4(source) + ip4(destination) + options
    return head[:10] + struct.pack("!H", ones(head) ^ damage) + head[12:] + payload


def udp(source, source_port, destination, destination_port, payload, length=None, checksum=None):
    length = 8 + len(payload) if length is None else length
    head = struct.pack("!HHH", source_port, destination_port, length)
    pseudo = ip4(source) + ip4(destination) + struct.pack("!HH", 17, length)
    if checksum is None:
        checksum = ones(pseudo + head + b"\0\0" + payload) or 0xFFFF
    return head + struct.pack("!H", checksum) + payload


# ARP ---------------------------------------------------------------------------------------------------------------------------


def arp(operation, sender_mac, sender, target_mac, target, kind=1, sizes=(6, 4)):
    return struct.pack("!HHBBH", kind, 0x0800, *sizes, operation) + sender_mac + ip4(sender) + target_mac + ip4(target)


# DNS ---------------------------------------------------------------------------------------------------------------------------

PTR, SRV, TXT, ADDRESS, ANY, AAAA, NSEC = 12, 33, 16, 1, 255, 28, 47


class Dns:
    """A message whose names are compressed (RFC 1035, section 4.1.4)."""

    def __init__(self, response, counts, ident=0, flags=None):
        flags = (0x8400 if response else 0) if flags is None else flags
        self.data, self.seen = struct.pack("!HH4H", ident, flags, *counts), {}

    def name(self, labels, compress=True):
        for at in range(len(labels)):
            suffix = tuple(labels[at:])
            if compress and suffix in self.seen:
                self.data += struct.pack("!H", 0xC000 | self.seen[suffix])
                return
            self.seen.setdefault(suffix, len(self.data))
            label = labels[at].encode()
            self.data += bytes([len(label)]) + label
        self.data += b"\0"

    def question(self, labels, kind, top=0, klass=1):
        self.name(labels)
        self.data += struct.pack("!HH", kind, klass | top)
        return self

    def record(self, labels, kind, ttl, value, top=0x8000, klass=1):
        self.name(labels)
        self.data += struct.pack("!HHIH", kind, klass | top, ttl, 0)
        start = len(self.data)
        if kind == PTR:
            self.name(value)
        elif kind == SRV:
            self.data += struct.pack("!HHH", 0, 0, value[0])
            # RFC 2782: the target is not compressed. mDNS would allow it.
            self.name(value[1], compress=False)
        else:
            self.data += value
        self.data = self.data[: start - 2] + struct.pack("!H", len(self.data) - start) + self.data[start:]
        return self

    def raw(self, data):
        self.data += data
        return self


def strings(*texts):
    return b"".join(bytes([len(text)]) + text for text in texts)


LEADER_TYPE, MEMBER_TYPE = ["_cluster", "_tcp", "local"], ["_cluster-member", "_tcp", "local"]
TYPES, HOST = ["_services", "_dns-sd", "_udp", "local"], ["node-0011aa", "local"]
INSTANCE, LEADER_INSTANCE = ["node-0011aa", *MEMBER_TYPE], ["Lab of Ada", *LEADER_TYPE]


def mdns(message, source=MEMBER, port=5353, to=MDNS, to_port=5353, mac=GROUP, **kw):
    data = message.data if isinstance(message, Dns) else message
    return ethernet(A, mac, 0x0800, ipv4(source, to, udp(source, port, to, to_port, data, **kw), 255))


# DHCP --------------------------------------------------------------------------------------------------------------------------


def option(code, value):
    return bytes([code, len(value)]) + value


def seconds(code, value):
    return option(code, struct.pack("!I", value))


def bootp(op, kind, options, xid=0x12345678, secs=3, flags=0x8000, ciaddr=NONE, yiaddr=NONE, giaddr=NONE, chaddr=A, htype=1,
          hlen=6, cookie=b"\x63\x82\x53\x63", end=b"\xff", shortest=300, sname=b"", file=b""):
    head = struct.pack("!BBBBIHH", op, htype, hlen, 0, xid, secs, flags)
    head += ip4(ciaddr) + ip4(yiaddr) + ip4(NONE) + ip4(giaddr) + chaddr.ljust(16, b"\0")
    head += sname.ljust(64, b"\0") + file.ljust(128, b"\0") + cookie
    typed = option(53, bytes([kind])) if kind else b""
    return (head + typed + options + end).ljust(shortest, b"\0")


def to_server(kind, options, source=NONE, to=EVERY, mac=ALL, **kw):
    data = udp(source, 68, to, 67, bootp(1, kind, options, **kw))
    return ethernet(A, mac, 0x0800, ipv4(source, to, data, 64))


def to_client(kind, options, to=EVERY, mac=ALL, **kw):
    data = udp(LEADER, 67, to, 68, bootp(2, kind, options, **kw))
    return ethernet(B, mac, 0x0800, ipv4(LEADER, to, data, 64))


CLIENT = option(61, b"\x01" + A) + option(12, b"node-0011aa")
WANTS = option(55, bytes([1, 3, 6, 12, 28, 51, 54, 58, 59]))
SERVER = option(54, ip4(LEADER))
LEASE = SERVER + seconds(51, 3600) + seconds(58, 1800) + seconds(59, 3150) + option(1, ip4("255.255.255.0"))
LEASE += option(28, ip4("192.168.200.255"))
WANTED = option(50, ip4(MEMBER))

FRAMES = {}


def put(name, data):
    FRAMES[name] = data


put("arp-probe", ethernet(A, ALL, 0x0806, arp(1, A, NONE, b"\0" * 6, MEMBER)))
put("arp-announcement", ethernet(A, ALL, 0x0806, arp(1, A, MEMBER, b"\0" * 6, MEMBER)))
put("arp-request", ethernet(A, ALL, 0x0806, arp(1, A, MEMBER, b"\0" * 6, LEADER)))
put("arp-reply", ethernet(B, A, 0x0806, arp(2, B, LEADER, A, MEMBER)))
put("arp-unpadded", ethernet(B, A, 0x0806, arp(2, B, LEADER, A, MEMBER), shortest=0))
put("bad-arp-operation", ethernet(A, ALL, 0x0806, arp(3, A, MEMBER, b"\0" * 6, LEADER)))
put("bad-arp-hardware", ethernet(A, ALL, 0x0806, arp(1, A, MEMBER, b"\0" * 6, LEADER, kind=6)))
put("bad-arp-sizes", ethernet(A, ALL, 0x0806, arp(1, A, MEMBER, b"\0" * 6, LEADER, sizes=(255, 255))))
put("bad-arp-truncated", ethernet(A, ALL, 0x0806, arp(1, A, MEMBER, b"\0" * 6, LEADER)[:20], shortest=0))

put("mdns-query-types", mdns(Dns(False, (1, 0, 0, 0)).question(TYPES, PTR)))
put("mdns-query-leader", mdns(Dns(False, (1, 0, 0, 0)).question(LEADER_TYPE, PTR, top=0x8000)))
put("mdns-query-known", mdns(Dns(False, (1, 1, 0, 0)).question(LEADER_TYPE, PTR)
                             .record(LEADER_TYPE, PTR, 4400, LEADER_INSTANCE, top=0)))
put("mdns-query-any-class", mdns(Dns(False, (1, 0, 0, 0)).question(HOST, ADDRESS, klass=255)))
put("mdns-query-mixed", mdns(Dns(False, (3, 0, 0, 0)).question(["_http", "_tcp", "local"], PTR)
                             .question(["NODE-0011AA", "LOCAL"], ADDRESS).question(HOST, AAAA)))
put("mdns-query-one-shot", mdns(Dns(False, (1, 0, 0, 0), ident=0x4711).question(HOST, ADDRESS), port=40000))
put("mdns-query-unsummed", mdns(Dns(False, (1, 0, 0, 0)).question(TYPES, PTR), checksum=0))
put("mdns-probe", mdns(Dns(False, (1, 0, 2, 0)).question(HOST, ANY, top=0x8000)
                       .record(HOST, ADDRESS, 120, ip4(MEMBER), top=0).record(INSTANCE, SRV, 120, (2377, HOST), top=0)))
put("mdns-response", mdns(Dns(True, (0, 5, 0, 0)).record(TYPES, PTR, 4500, MEMBER_TYPE, top=0)
                          .record(MEMBER_TYPE, PTR, 4500, INSTANCE, top=0).record(INSTANCE, SRV, 120, (2377, HOST))
                          .record(INSTANCE, TXT, 4500, strings(b"v=1", b"id=00ff")).record(HOST, ADDRESS, 120, ip4(MEMBER))))
put("mdns-response-additional", mdns(Dns(True, (0, 1, 0, 2)).record(LEADER_TYPE, PTR, 4500, LEADER_INSTANCE, top=0)
                                     .record(LEADER_INSTANCE, SRV, 120, (8500, HOST)).record(HOST, ADDRESS, 120, ip4(LEADER))))
put("mdns-response-foreign", mdns(Dns(True, (0, 3, 0, 1)).record(["_http", "_tcp", "local"], PTR, 4500, ["p", "_http", "_tcp", "local"])
                                  .record(HOST, AAAA, 120, b"\xfe\x80" + b"\0" * 14).record(HOST, ADDRESS, 120, ip4(MEMBER))
                                  .record(HOST, NSEC, 120, b"\xc0\x0c\x00\x01\x40")))
put("mdns-response-empty-text", mdns(Dns(True, (0, 1, 0, 0)).record(INSTANCE, TXT, 4500, b"\0")))
put("mdns-response-no-data", mdns(Dns(True, (0, 1, 0, 0)).record(INSTANCE, TXT, 4500, b"")))
put("mdns-response-one-shot", mdns(Dns(True, (1, 1, 0, 0), ident=0x4711).question(HOST, ADDRESS)
                                   .record(HOST, ADDRESS, 10, ip4(MEMBER), top=0), to=LEADER, to_port=40000, mac=B))
put("mdns-goodbye", mdns(Dns(True, (0, 2, 0, 0)).record(LEADER_TYPE, PTR, 0, LEADER_INSTANCE, top=0)
                         .record(LEADER_INSTANCE, SRV, 0, (8500, HOST))))
def chain(length):
    """An address whose name is `length` pointers behind each other, in the data of a record before it, and then HOST."""
    start = 12 + 19 + 10
    data = b"".join(struct.pack("!H", 0xC000 | (start + 2 * at - 2 if at else 12)) for at in range(length - 1))
    return (Dns(True, (0, 2, 0, 0)).record(HOST, 10, 1, data)
            .raw(struct.pack("!HHHIH", 0xC000 | (start + 2 * (length - 2)), ADDRESS, 1, 120, 4) + ip4(MEMBER)))


put("mdns-pointer-chain-127", mdns(chain(127)))
put("bad-mdns-pointer-chain-128", mdns(chain(128)))
put("bad-mdns-pointer-chain-700", mdns(chain(700)))
put("bad-mdns-pointer-self", mdns(Dns(True, (0, 1, 0, 0)).raw(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4")))
put("bad-mdns-pointer-forward", mdns(Dns(True, (0, 1, 0, 0)).raw(b"\xc0\x0e\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4")))
put("bad-mdns-pointer-header", mdns(Dns(True, (0, 1, 0, 0)).raw(b"\x04node\xc0\x00\0\1\0\1\0\0\0\1\0\4\1\2\3\4")))
put("bad-mdns-label-64", mdns(Dns(False, (1, 0, 0, 0)).raw(b"\x40" + b"a" * 64 + b"\x05local\0\0\1\0\1")))
put("bad-mdns-name-long", mdns(Dns(False, (1, 0, 0, 0)).raw((b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1")))
put("bad-mdns-counts", mdns(Dns(True, (65535, 65535, 65535, 65535))))
put("bad-mdns-counts-one", mdns(Dns(True, (0, 65535, 0, 0)).record(HOST, ADDRESS, 120, ip4(MEMBER))))
put("bad-mdns-data-long", mdns(Dns(True, (0, 1, 0, 0)).raw(b"\x04node\x05local\0\0\1\0\1\0\0\0\1\xff\xff\1\2\3\4")))
put("bad-mdns-address-5", mdns(Dns(True, (0, 1, 0, 0)).record(HOST, ADDRESS, 120, b"\1\2\3\4\5")))
put("bad-mdns-address-3", mdns(Dns(True, (0, 2, 0, 0)).record(HOST, ADDRESS, 120, b"\1\2\3").record(HOST, ADDRESS, 1, b"\1\2\3\4")))
put("bad-mdns-text-over", mdns(Dns(True, (0, 1, 0, 0)).record(INSTANCE, TXT, 120, b"\xffabc")))
put("bad-mdns-target-over", mdns(Dns(True, (0, 1, 0, 0)).raw(
    b"\x04node\x05local\0\0\x21\0\1\0\0\0\1\0\x08\0\0\0\0\0\1\x04node\xc0\x11")))
put("bad-mdns-control", mdns(Dns(True, (0, 1, 0, 0)).record(["\x1b[2J", *MEMBER_TYPE], TXT, 120, b"\0")))
put("bad-mdns-opcode", mdns(Dns(False, (1, 0, 0, 0), flags=0x2800).question(HOST, ADDRESS)))
put("bad-mdns-rcode", mdns(Dns(True, (0, 1, 0, 0), flags=0x8403).record(HOST, ADDRESS, 120, ip4(MEMBER))))
put("bad-mdns-header", mdns(b"\0\0\x84\0\0"))
put("bad-mdns-response-port", mdns(Dns(True, (0, 1, 0, 0)).record(HOST, ADDRESS, 120, ip4(MEMBER)), port=40000))
put("bad-mdns-foreign", mdns(Dns(False, (1, 0, 0, 0)).question(["_http", "_tcp", "local"], PTR)))
put("bad-mdns-questions-only", mdns(Dns(True, (1, 0, 0, 0)).question(HOST, ADDRESS)))
put("bad-mdns-long", mdns(Dns(False, (1, 0, 0, 0)).question(HOST, ADDRESS).raw(b"\0" * 9000)))

put("dhcp-discover", to_server(1, CLIENT + WANTS))
put("dhcp-discover-sealed", to_server(1, WANTED + CLIENT + WANTS + option(224, SEAL)))
put("dhcp-offer", to_client(2, LEASE, yiaddr=MEMBER))
put("dhcp-request", to_server(3, SERVER + WANTED + CLIENT + WANTS))
put("dhcp-request-renewing", to_server(3, CLIENT + WANTS, source=MEMBER, to=LEADER, mac=B, ciaddr=MEMBER, flags=0))
put("dhcp-decline", to_server(4, SERVER + WANTED + option(56, b"in use")))
put("dhcp-ack", to_client(5, LEASE + option(12, b"node-0011aa") + option(224, SEAL), to=MEMBER, mac=A, yiaddr=MEMBER, flags=0))
put("dhcp-nak", to_client(6, SERVER + option(56, b"not of this subnet")))
put("dhcp-release", to_server(7, SERVER + CLIENT, source=MEMBER, to=LEADER, mac=B, ciaddr=MEMBER, flags=0))
put("dhcp-inform", to_server(8, WANTS, source=MEMBER, ciaddr=MEMBER))
put("dhcp-split", to_server(1, option(61, b"\1\2\3") + b"\0\0" + option(12, b"a") + option(61, b"\4\5") + option(12, b"b")))
put("dhcp-host-name-latin1", to_server(3, option(12, b"k\xfcche") + SERVER + WANTED))
put("dhcp-host-name-nul", to_server(1, option(12, b"node\0")))
put("dhcp-host-name-shell", to_server(1, option(12, b"$(reboot)")))
put("dhcp-rapid-commit-long", to_server(1, option(80, b"\1\2\3") + option(94, b"\1")))
put("dhcp-long-seal", to_server(1, option(224, b"s" * 255) + option(224, b"t" * 45)))
put("bad-dhcp-overload", to_server(1, option(52, b"\3"), sname=option(12, b"a") + b"\xff"))
put("bad-dhcp-relay", to_server(1, CLIENT, giaddr="10.0.0.1"))
put("bad-dhcp-htype", to_server(1, CLIENT, htype=32))
put("bad-dhcp-hlen-16", to_server(1, CLIENT, hlen=16))
put("bad-dhcp-hlen-255", to_server(1, CLIENT, hlen=255))
put("bad-dhcp-cookie", to_server(1, CLIENT, cookie=b"\x63\x82\x53\x64"))
put("bad-dhcp-no-type", to_server(0, CLIENT))
put("bad-dhcp-kind", to_server(10, CLIENT))
put("bad-dhcp-operation", to_server(2, LEASE))
put("bad-dhcp-type-twice", to_server(1, option(53, b"\3")))
put("bad-dhcp-lease-8", to_client(2, option(51, b"\0" * 8), yiaddr=MEMBER))
put("bad-dhcp-server-3", to_client(2, option(54, b"\1\2\3"), yiaddr=MEMBER))
put("bad-dhcp-no-end", to_server(1, CLIENT, end=b"", shortest=0))
put("bad-dhcp-option-over", to_server(1, b"\x0c\xffnode", end=b"", shortest=0))
put("bad-dhcp-option-bare", to_server(1, b"\x0c", end=b"", shortest=0))
put("bad-dhcp-client-id-300", to_server(1, option(61, b"c" * 255) + option(61, b"d" * 45)))
put("bad-dhcp-short", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, udp(NONE, 68, EVERY, 67, bootp(1, 1, b"")[:200]), 64)))
put("bad-dhcp-port", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, udp(NONE, 67, EVERY, 68, bootp(1, 1, CLIENT)), 64)))

inner = udp(NONE, 68, EVERY, 67, bootp(1, 1, CLIENT))
put("ip-options", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, options=b"\x94\x04\0\0")))
put("bad-ip-checksum", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, damage=1)))
put("bad-ip-fragment-first", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, flags=0x2000)))
put("bad-ip-fragment-last", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, flags=0x0010)))
put("bad-ip-total-long", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, total=1400)))
put("bad-ip-total-short", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, total=8)))
put("bad-ip-protocol", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, inner, 64, protocol=6)))
put("bad-ip-source-group", ethernet(A, ALL, 0x0800, ipv4(MDNS, EVERY, udp(MDNS, 68, EVERY, 67, bootp(1, 1, CLIENT)), 64)))
put("bad-udp-checksum", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, udp(NONE, 68, EVERY, 67, bootp(1, 1, CLIENT), checksum=1), 64)))
put("bad-udp-length-zero", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, udp(NONE, 68, EVERY, 67, bootp(1, 1, b""), length=0), 64)))
put("bad-udp-length-long", ethernet(A, ALL, 0x0800, ipv4(NONE, EVERY, udp(NONE, 68, EVERY, 67, bootp(1, 1, b""), length=900), 64)))
put("bad-udp-ports", ethernet(A, ALL, 0x0800, ipv4(MEMBER, EVERY, udp(MEMBER, 53, EVERY, 54, b"x"), 64)))
put("bad-tagged", ethernet(A, ALL, 0x8100, struct.pack("!HH", 200, 0x0806) + arp(1, A, MEMBER, b"\0" * 6, LEADER)))
put("bad-tagged-twice", ethernet(A, ALL, 0x88A8, struct.pack("!HHHH", 7, 0x8100, 200, 0x0806) + arp(1, A, NONE, b"\0" * 6, LEADER)))
put("bad-ethertype", ethernet(A, ALL, 0x86DD, b"\x60" + b"\0" * 39))
put("bad-source-group", ethernet(GROUP, ALL, 0x0806, arp(1, A, MEMBER, b"\0" * 6, LEADER)))
put("bad-short", b"\xff" * 13)
put("bad-empty", b"")

HERE.mkdir(exist_ok=True)
for name, data in FRAMES.items():
    (HERE / name).write_bytes(data)
for path in HERE.iterdir():
    if path.name not in FRAMES:
        path.unlink()
print(len(FRAMES), "frames")
