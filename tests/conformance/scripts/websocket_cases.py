"""WebSocket frames of every kind, good and bad, by the groups of Autobahn's suite: whatever an echo
server answers to a caller that is connected directly, it must answer through the proxies, byte by
byte. The frames are made here, so that wrong ones can be.

usage: websocket_cases.py DIRECT THROUGH HOST
"""

import random
import select
import socket
import struct
import sys
import zlib

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
MASK = b"\x01\x02\x03\x04"
# Longest wait for the first octet of an answer where there may be none, and between octets.
FIRST = 0.25
SILENCE = 0.05


def frame(opcode, payload=b"", fin=True, reserved=0, masked=True, length=None):
    head = bytes([(0x80 if fin else 0) | (reserved << 4) | opcode])
    size = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = MASK * (len(payload) // 4 + 1)
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(mask[: len(payload)], "big")
    return head + MASK + mixed.to_bytes(len(payload), "big")


def deflated(payload):
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def cases():
    end = close()
    for size in [0, 125, 126, 127, 128, 65535, 65536]:
        yield f"1.1 text of {size}", [frame(TEXT, b"*" * size), end]
        yield f"1.2 binary of {size}", [frame(BINARY, b"\xfe" * size), end]
    yield "1.3 in pieces of 997", [frame(TEXT, b"*" * 65536) + end], 997
    for size in [0, 5, 125]:
        yield f"2.1 ping of {size}", [frame(PING, b"p" * size), end]
    yield "2.2 ping of 126", [frame(PING, b"p" * 126), end]
    yield "2.3 pong nobody asked for", [frame(PONG, b"x"), frame(PING, b"y"), end]
    yield "2.4 ten pings at once", [b"".join(frame(PING, b"%d" % i) for i in range(10)), end]
    yield "2.5 octet by octet", [frame(PING, b"slow") + end], 1
    for bits in range(1, 8):
        yield f"3 reserved bits {bits}", [frame(TEXT, b"hello", reserved=bits), end]
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]:
        yield f"4 opcode {opcode}", [frame(opcode, b"x"), end]
    yield "5.1 fragmented ping", [frame(PING, b"a", fin=False), frame(CONTINUATION, b"b"), end]
    for pieces in [2, 5, 100]:
        parts = [frame(TEXT, b"part", fin=False)]
        parts += [frame(CONTINUATION, b"part", fin=False) for _ in range(pieces - 2)]
        parts += [frame(CONTINUATION, b"last")]
        yield f"5.2 in {pieces} fragments", [b"".join(parts), end]
        if pieces < 10:
            yield f"5.3 in {pieces} fragments, one write each", [*parts, end]
    yield "5.4 ping between fragments", [
        frame(TEXT, b"a", fin=False), frame(PING, b"p"), frame(CONTINUATION, b"b"), end]
    yield "5.5 nothing to continue", [frame(CONTINUATION, b"b"), end]
    yield "5.6 text within text", [frame(TEXT, b"a", fin=False), frame(TEXT, b"b"), end]
    yield "6.1 utf-8", [frame(TEXT, "Hello-µ@ßöäüàá-UTF-8!!".encode()), end]
    whole = "κόσμε😀".encode()
    for cut in range(1, len(whole)):
        yield f"6.2 utf-8 cut at {cut}", [
            frame(TEXT, whole[:cut], fin=False), frame(CONTINUATION, whole[cut:]), end]
    for bad in [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xce", b"ab\xf5"]:
        yield f"6.3 no utf-8 {bad.hex()}", [frame(TEXT, bad), end]
    yield "7.1 close with a reason", [close(1000, b"bye")]
    yield "7.2 close without a code", [frame(CLOSE)]
    yield "7.3 close of one octet", [frame(CLOSE, b"\x03")]
    yield "7.4 close of 126", [frame(CLOSE, b"\x03\xe8" + b"x" * 124)]
    yield "7.5 close, no utf-8", [close(1000, b"\xff")]
    yield "7.6 text after close", [end + frame(TEXT, b"late")]
    for code in [999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1015, 1016, 2999, 3000, 4999, 5000]:
        yield f"7.7 close {code}", [close(code)]
    yield "8.1 not masked", [frame(TEXT, b"x", masked=False), end]
    yield "8.2 length in too many octets", [b"\x81\xfe\x00\x01" + MASK + b"\x00", end]
    for size in [256 << 10, 1 << 20, 16 << 20]:
        yield f"9.1 text of {size}", [frame(TEXT, b"*" * size), end]
    yield "9.2 1 MiB in fragments of 64", [
        frame(BINARY, b"x" * 64, fin=False)
        + frame(CONTINUATION, b"x" * 64, fin=False) * (16383 - 1)
        + frame(CONTINUATION, b"x" * 64), end]
    yield "9.3 a thousand messages", [frame(TEXT, b"m" * 100) * 1000, end]
    yield "10 1 MiB in pieces of 1300", [frame(BINARY, b"z" * (1 << 20)) + end], 1300
    for size in [16, 1024, 131072]:
        text = (b"compressible " * (size // 13 + 1))[:size]
        yield f"12 deflated {size}", [frame(TEXT, deflated(text), reserved=4), end], 0, True
    yield "12.2 deflated garbage", [frame(TEXT, b"\xff\xff\xff", reserved=4), end], 0, True
    yield "13 no deflate though agreed", [frame(TEXT, b"plain"), end], 0, True
    yield "row 29 random octets", [random.Random(29).randbytes(5000)]
    yield "row 29 half a frame, then the end", [frame(TEXT, b"x" * 100)[:50]]


def talk(address, host, writes, piece, deflate):
    """All that comes after the head of the answer."""
    stream = socket.create_connection(address, timeout=20)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ask = (f"GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")
    if deflate:
        ask += "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    stream.sendall(ask.encode() + b"\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        octet = stream.recv(1)
        if not octet:
            raise SystemExit(f"no head: {head!r}")
        head += octet
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"no switch: {head!r}")
    if deflate != (b"permessage-deflate" in head):
        raise SystemExit(f"extensions are lost: {head!r}")
    came = bytearray()
    last = len(writes) - 1
    for i, write in enumerate(writes):
        step = piece or 1 << 16
        pieces = [write[at:at + step] for at in range(0, len(write), step)]
        if not exchange(stream, pieces, came):
            return bytes(came)
        if i < last:
            # What is answered to this one, before the next one goes.
            hear(stream, came, FIRST)
    stream.shutdown(socket.SHUT_WR)
    hear(stream, came, 20)
    return bytes(came)


def exchange(stream, pieces, came):
    """Sends, and reads meanwhile: else both sides could wait for each other. False: it is closed."""
    stream.setblocking(False)
    try:
        for piece in pieces:
            while piece:
                readable, writable, _ = select.select([stream], [stream], [], 20)
                if readable:
                    octets = stream.recv(1 << 20)
                    if not octets:
                        return False
                    came += octets
                if writable:
                    piece = piece[stream.send(piece):]
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def hear(stream, came, first):
    """Reads until nothing comes any more; `first` is how long the first octet may take."""
    wait = first
    while select.select([stream], [], [], wait)[0]:
        try:
            octets = stream.recv(1 << 20)
        except ConnectionResetError:
            return
        if not octets:
            return
        came += octets
        wait = first if first > 1 else SILENCE


def main():
    direct, through = [(it.rsplit(":")[0], int(it.rsplit(":")[1])) for it in sys.argv[1:3]]
    count = 0
    for name, writes, *more in cases():
        piece, deflate = (more + [0, False][len(more):])[:2]
        answers = [talk(it, sys.argv[3], writes, piece, deflate) for it in (direct, through)]
        # Whether a peer that is refused reads the reason or a reset is a race on any wire.
        same = answers[0] == answers[1]
        print("ok" if same else "FAILED", name, flush=True)
        if not same:
            print(f"  direct {answers[0][:80]!r}\n  through {answers[1][:80]!r}", flush=True)
        count += 1
    print(f"cases {count}", flush=True)


main()
