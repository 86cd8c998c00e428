"""Clients that are cheap for themselves and costly for the proxy, and what a good client feels of them.

``python tests/process/hogs.py [--seconds 10] [--connections 1,100] [NAME …]`` runs the proxy, and against it each
kind of hog for so long from so many connections. Printed for each: the good client's median and 99th percentile, the
median without them, and how much they got through. The tests use the same for moments.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import hpack
import trio

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.process.product import PATIENCE, Product, product  # noqa: E402  # the path is set above
from tests.process.slowloris import good_client  # noqa: E402  # as above
from tests.process.upstreams import upstream  # noqa: E402  # as above
from xproxy.codecs.http2.wire import (  # noqa: E402  # as above
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS_ACK,
    frame,
    settings,
    window_update,
)

PAUSE: Final = 0.5
"""Seconds before who was cut off is there again."""
_BLOB: Final = 64 * 1024

Blobs: TypeAlias = Callable[[], Iterator[bytes]]


def _for_ever(piece: bytes) -> Iterator[bytes]:
    blob = piece * max(1, _BLOB // len(piece))
    while True:
        yield blob


def _chunks() -> Iterator[bytes]:
    yield b"POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from _for_ever(b"1\r\nx\r\n")


def _extensions() -> Iterator[bytes]:
    yield b"POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from _for_ever(b"001\r\nx\r\n2\r\nxx\r\n")


def _pipeline() -> Iterator[bytes]:
    return _for_ever(b"GET /local HTTP/1.1\r\nHost: a\r\n\r\n")


def _block(*pairs: tuple[str, str], encoder: hpack.Encoder | None = None) -> bytes:
    return (encoder or hpack.Encoder()).encode(pairs)


def _request(path: str, method: str = "GET") -> tuple[tuple[str, str], ...]:
    return (
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
    )


def _http2() -> bytes:
    return PREFACE + settings(()) + SETTINGS_ACK + window_update(0, 2**30)


def _data_frames() -> Iterator[bytes]:
    yield _http2() + frame(HEADERS, END_HEADERS, 1, _block(*_request("/bad", "POST")))
    yield from _for_ever(frame(DATA, 0, 1, b"x"))


def _two_streams() -> Iterator[bytes]:
    # Pieces that cannot be joined with the one before.
    block = _block(*_request("/bad", "POST"))
    yield _http2() + b"".join(
        frame(
            HEADERS,
            END_HEADERS,
            n,
            hpack.Encoder().encode(_request("/bad", "POST")) if n == 1 else block,
        )
        for n in (1, 3)
    )
    yield from _for_ever(frame(DATA, 0, 1, b"x") + frame(DATA, 0, 3, b"x"))


def _tables() -> Iterator[bytes]:
    # Each request adds 60 entries to the table, none of which was there before.
    yield _http2()
    stream_id, number = 1, 0
    while True:
        blob = []
        for _ in range(20):
            fields = bytearray(b"\x82\x86\x04\x06/local\x01\x01a")
            for _ in range(60):
                number += 1
                value = b"%06x" % (number & 0xFFFFFF)
                fields += b"\x40\x01x\x06" + value
            blob.append(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, bytes(fields)))
            stream_id += 2
        yield b"".join(blob)


def _oneway(name: bytes, body: bytes) -> bytes:
    return b"\x80\1\0\4" + len(name).to_bytes(4) + name + bytes(4) + body


def _list(count: int, kind: int, element: bytes) -> bytes:
    return b"\x0f\0\1%c" % kind + count.to_bytes(4) + element * count + b"\0"


def _thrift_escapes() -> Iterator[bytes]:
    return _for_ever(b'[1,"plain",4,1,{"1":{"str":"%b"}}]' % (b"\\n" * 500_000))


def _thrift_structs() -> Iterator[bytes]:
    return _for_ever(_oneway(b"plain", _list(1_000_000, 12, b"\0")))


def _thrift_converted() -> Iterator[bytes]:
    message = _oneway(b"converted", _list(100_000, 12, b"\x0f\0\1\2\0\0\0\1\1\0"))
    return _for_ever(len(message).to_bytes(4) + message)


def _thrift_packed() -> Iterator[bytes]:
    # In a THeader, packed, with 8 MiB of which zlib can make little.
    chance = random.Random(7)
    call = _oneway(
        b"packed", b"\x0b\0\1" + (8 << 20).to_bytes(4) + chance.randbytes(8 << 20) + b"\0"
    )
    header = b"\0\1\1\0"  # binary, one transform: zlib
    frame = b"\x0f\xff\0\0\0\0\0\1\0\1" + header + zlib.compress(call, 1)
    return itertools.repeat(len(frame).to_bytes(4) + frame)


def _dubbo_maps() -> Iterator[bytes]:
    # A list of empty maps, which may name another service: it must be walked through.
    body = b"\x052.0.2\x04demo\x050.0.0\x03add\x10Ljava/util/List;"
    body += b"WR\0\x01p\x01p" + b"HZ" * 60_000 + b"ZH\x04path\x04demoZ"
    head = b"\xda\xbb\x82\0"  # one-way, in hessian2
    return _for_ever(head + bytes(7) + b"\1" + len(body).to_bytes(4) + body)


def _dubbo_texts() -> Iterator[bytes]:
    # A long text in chunks, which is looked through.
    body = b"\x052.0.2\x04demo\x050.0.0\x03add\x10Ljava/util/List;"
    body += b"W" + (b"R\x80\0" + b"a" * 0x7FFF + b"\xe0\xa4\x85") * 400 + b"\0ZH\x04path\x04demoZ"
    head = b"\xda\xbb\x82\0"
    return itertools.repeat(head + bytes(7) + b"\1" + len(body).to_bytes(4) + body)


@attrs.frozen
class Hog:
    """What is sent, as fast as it is taken. What comes back is read and dropped."""

    blobs: Blobs


HOGS: Final[dict[str, Hog]] = {
    "chunks of 1 byte": Hog(_chunks),
    "chunks, two sizes": Hog(_extensions),
    "pipelined requests": Hog(_pipeline),
    "DATA of 1 byte": Hog(_data_frames),
    "DATA of 1 byte, two streams": Hog(_two_streams),
    "60 table entries a request": Hog(_tables),
    "Thrift JSON escapes": Hog(_thrift_escapes),
    "Thrift lists of empty structs": Hog(_thrift_structs),
    "Thrift lists converted": Hog(_thrift_converted),
    "Thrift packed": Hog(_thrift_packed),
    "Dubbo lists of maps": Hog(_dubbo_maps),
    "Dubbo long texts": Hog(_dubbo_texts),
}


# ---- the hogs, a process of their own


@attrs.define
class Outcome:
    """What the hogs saw."""

    sent: int = 0
    """Bytes."""
    connections: int = 0


async def _read(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(1 << 20):
            pass
    except trio.BrokenResourceError:
        pass


async def attack(port: int, name: str, connections: int, seconds: float) -> Outcome:
    """Attack from so many connections for so long. Prints a line when all are at it."""
    outcome = Outcome()
    ready = 0
    all_ready = trio.Event()

    async def one() -> None:
        nonlocal ready
        begun = False
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(PAUSE)
                continue
            outcome.connections += 1
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(_until_ended, stream, nursery.cancel_scope)
                try:
                    for piece in _pieces(HOGS[name].blobs()):
                        await stream.send_all(piece)
                        outcome.sent += len(piece)
                        if not begun:
                            begun = True
                            ready += 1
                            if ready == connections:
                                print("ready", flush=True)
                                all_ready.set()
                except trio.BrokenResourceError:
                    nursery.cancel_scope.cancel()
            await trio.sleep(PAUSE)

    with trio.move_on_after(PATIENCE) as scope:
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(one)
            await all_ready.wait()
            scope.deadline = trio.current_time() + seconds
    return outcome


def _pieces(blobs: Iterator[bytes]) -> Iterator[bytes]:
    # A large one is not taken within the patience where a hundred send as large ones.
    for blob in blobs:
        for at in range(0, len(blob), _BLOB):
            yield blob[at : at + _BLOB]


async def _until_ended(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    await _read(stream)
    scope.cancel()


# ---- the measurement


def configuration(good: int, sink: int) -> str:
    """Return the proxy's configuration: the good client's requests go to an upstream of their own."""
    return (
        "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\n"
        "routes:\n"
        "  main:\n"
        "    - {match: {path: /good}, cluster: good}\n"
        "    - {match: {path: /local}, filters: [{name: direct_response, status: ok}]}\n"
        "    - {match: {protocol: thrift, method: converted}, cluster: converted}\n"
        "    - {match: {protocol: thrift}, cluster: plain}\n"
        "    - {match: {protocol: dubbo}, cluster: plain}\n"
        "    - {cluster: sink}\n"
        "clusters:\n"
        f"  good: {{endpoints: ['127.0.0.1:{good}'], codec: http1}}\n"
        f"  sink: {{endpoints: ['127.0.0.1:{sink}'], codec: http1}}\n"
        f"  plain: {{endpoints: ['127.0.0.1:{sink}']}}\n"
        f"  converted: {{endpoints: ['127.0.0.1:{sink}'],"
        " codec: {name: thrift, protocol: compact}}\n"
    )


@attrs.frozen
class Found:
    """What a good client felt."""

    taken: list[float]
    """Seconds, sorted: of each of its requests."""
    outcome: Outcome

    @property
    def median(self) -> float:
        return statistics.median(self.taken)

    @property
    def p99(self) -> float:
        return self.taken[int(len(self.taken) * 0.99)]


def under_attack(
    proxy: Product,
    name: str,
    connections: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """Let hogs run beside a good client, whose requests are timed by ``clock``."""
    command = [sys.executable, __file__, "--attack", name, str(proxy.port), str(connections)]
    hogs = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    taken: list[float] = []
    try:
        assert hogs.stdout is not None
        assert hogs.stdout.readline() == "ready\n"
        while hogs.poll() is None:
            taken += good_client(proxy.port, min(0.25, seconds), clock)
        outcome = Outcome(**json.loads(hogs.stdout.read()))
    finally:
        hogs.kill()
        hogs.wait()
        assert hogs.stdout is not None
        hogs.stdout.close()
    return Found(sorted(taken), outcome)


def measure(proxy: Product, names: Sequence[str], sizes: Sequence[int], seconds: float) -> None:
    """Let each kind run, one after the other, and print what it did."""
    good_client(proxy.port, 1.0)
    ratios = []
    for connections in sizes:
        for name in names:
            alone = statistics.median(good_client(proxy.port, min(2.0, seconds)))
            found = under_attack(proxy, name, connections, seconds)
            ratios.append(found.median / alone)
            print(
                f"{connections:4} x {name:28} p50 {found.median * 1e3:7.2f} ms  p99 {found.p99 * 1e3:7.2f} ms"
                f"  (alone {alone * 1e3:.2f} ms)  sent {found.outcome.sent / 2**20:7.2f} MiB"
                f" on {found.outcome.connections}, {len(found.taken)} good",
                flush=True,
            )
            proxy.settled()
    print(
        f"ratio of the medians: mean {math.prod(ratios) ** (1 / len(ratios)):.2f}, worst {max(ratios):.2f}"
    )


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    if arguments[:1] == ["--attack"]:
        name, port, connections, seconds = arguments[1:]
        outcome = trio.run(attack, int(port), name, int(connections), float(seconds))
        print(json.dumps(attrs.asdict(outcome)))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(HOGS))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", default="1,100")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.connections.split(",")]
    with (
        tempfile.TemporaryDirectory() as work,
        upstream("web") as good,
        upstream("sink") as sink,
        product(configuration(good, sink), Path(work)) as proxy,
    ):
        measure(proxy, options.names or list(HOGS), sizes, options.seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
