"""Attacks on HTTP/2, and what a good client, the proxy's memory and its processor feel of each.

``python tests/process/attacks.py [--seconds 60] [--connections 1,100] [NAME …]`` runs the proxy, and against it each
attack for so long from so many connections. A connection that is cut off is made anew after ``PAUSE``. Printed for
each: the good client's median and its ratio to that without the attack, how much the proxy's memory grew, how often
attackers were cut off, by which counter of the listener, what they sent, and what the proxy's processor did for it.
The tests use the same for moments.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import hpack
import trio

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.process.product import Product, product  # noqa: E402  # the path is set above
from tests.process.slowloris import good_client  # noqa: E402  # as above
from tests.process.upstreams import upstream  # noqa: E402  # as above
from xproxy.codecs.http2.wire import (  # noqa: E402  # as above
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    PRIORITY,
    SETTINGS_ACK,
    Setting,
    frame,
    ping,
    rst_stream,
    settings,
    window_update,
)

PAUSE: Final = 1.0
"""Seconds before who was cut off is there again: what it costs to come back is for limits of connections."""
TIMEOUTS: Final = "{stream_idle: 5s, write: 5s, body: 5s, idle: 10s}"
"""Shorter than the defaults, so that they can be seen to work."""
CODECS: Final = "[auto, {name: http2, max_concurrent_streams: 100}]"
"""As the documentation has it for a listener that anybody may reach."""
COUNTERS: Final = (
    "downstream_cx_protocol_error",
    "downstream_cx_head_timeout",
    "downstream_cx_idle_timeout",
    "downstream_cx_write_timeout",
    "downstream_rq_timeout",
)
_BLOB: Final = 16384

Blobs: TypeAlias = Callable[[], Iterator[bytes]]


def _block(*pairs: tuple[str, str]) -> bytes:
    # Without the table: the same bytes may be said on every stream.
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in pairs])


GET: Final = (
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/size/100"),
    (":authority", "a"),
)
LARGE: Final = (*GET[:2], (":path", "/size/100000000"), GET[3])
_GET: Final = _block(*GET)
_LARGE: Final = _block(*LARGE)
_POST: Final = _block((":method", "POST"), GET[1], (":path", "/"), GET[3])


def _for_ever(piece: bytes) -> Iterator[bytes]:
    blob = piece * max(1, _BLOB // len(piece))
    while True:
        yield blob


def _streams(make: Callable[[int], bytes], at_once: int = 200) -> Iterator[bytes]:
    stream_id = 1
    while True:
        yield b"".join(make(stream_id + 2 * n) for n in range(at_once))
        stream_id += 2 * at_once


def _head(stream_id: int, block: bytes = _GET, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, stream_id, block)


def _rapid_reset() -> Iterator[bytes]:
    return _streams(lambda n: _head(n) + rst_stream(n, 8))


def _made_you_reset() -> Iterator[bytes]:
    return _streams(lambda n: _head(n) + window_update(n, 0))


def _late_data() -> Iterator[bytes]:
    return _streams(lambda n: _head(n) + frame(DATA, 0, n, b"x"))


def _too_many_streams() -> Iterator[bytes]:
    return _streams(lambda n: _head(n, _POST, END_HEADERS))


def _continuation(piece: bytes) -> Blobs:
    def blobs() -> Iterator[bytes]:
        yield _head(1, _GET, END_STREAM)
        yield from _for_ever(frame(CONTINUATION, 0, 1, piece))

    return blobs


def _hpack_bomb() -> Iterator[bytes]:
    # One entry that fills the table, and then one byte for each time that it is said again (CVE-2016-6581).
    fill = b"\x40\x01x" + b"\x7f\xc1\x1e" + b"v" * 4032
    yield from _streams(lambda n: _head(n, (fill if n == 1 else b"") + _GET + b"\xbe" * 10_000), 1)


def _empty_data() -> Iterator[bytes]:
    yield _head(1, _POST, END_HEADERS)
    yield from _for_ever(frame(DATA, 0, 1, b""))


def _padding() -> Iterator[bytes]:
    # Frames that are all padding: bytes that count, and bring nothing.
    yield _head(1, _POST, END_HEADERS)
    yield from _for_ever(frame(DATA, 0x8, 1, b"\xff" + bytes(255)))


def _window_updates() -> Iterator[bytes]:
    yield _head(1, _POST, END_HEADERS)
    yield from _for_ever(window_update(0, 1) + window_update(1, 1))


def _empty_names() -> Iterator[bytes]:
    # CVE-2019-9516: fields without name and value, which cost nothing to send and something to hold.
    return _streams(lambda n: _head(n, _GET + b"\x00\x00\x00" * 5000, END_HEADERS), 1)


def _shut_window() -> Iterator[bytes]:
    yield settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
    yield b"".join(_head(n, _LARGE) for n in range(1, 200, 2))


def _dribble() -> Iterator[bytes]:
    # CVE-2019-9511: a byte of window at a time, for a body that has no end.
    yield settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
    yield b"".join(_head(n, _LARGE) for n in range(1, 20, 2))
    while True:
        yield b"".join(window_update(n, 1) for n in range(1, 20, 2)) * 20


def _never_reading() -> Iterator[bytes]:
    yield window_update(0, 2**30) + settings([(Setting.INITIAL_WINDOW_SIZE, 2**30)])
    yield b"".join(_head(n, _LARGE) for n in range(1, 20, 2))


def _half_a_block() -> Iterator[bytes]:
    yield _head(1, _GET, END_STREAM)


def _no_acknowledgement() -> Iterator[bytes]:
    yield _head(1, _POST, END_HEADERS)


@attrs.frozen
class Attack:
    """What is sent after the preface, and which counters say that it was seen through."""

    blobs: Blobs
    counted: frozenset[str]
    """Any of these: a bound's name, or a counter of the listener."""
    reads: bool = True
    acknowledges: bool = True


def _by(*names: str, blobs: Blobs, reads: bool = True, acknowledges: bool = True) -> Attack:
    return Attack(blobs, frozenset(names), reads, acknowledges)


ATTACKS: Final[dict[str, Attack]] = {
    "rapid reset": _by("max_resets", blobs=_rapid_reset),
    "made you reset": _by("max_resets", blobs=_made_you_reset),
    "late data": _by("max_resets", "max_control_frames", blobs=_late_data),
    "too many streams": _by("max_resets", blobs=_too_many_streams),
    "continuation, large": _by("max_head_bytes", blobs=_continuation(bytes(16_000))),
    "continuation, small": _by("max_continuations", blobs=_continuation(b"\x82")),
    "continuation, empty": _by("max_empty_frames", blobs=_continuation(b"")),
    "hpack bomb": _by("max_head_bytes", blobs=_hpack_bomb),
    "empty names": _by("max_head_bytes", "max_resets", blobs=_empty_names),
    "empty data": _by("max_empty_frames", blobs=_empty_data),
    "padding": _by("max_empty_frames", blobs=_padding),
    "ping": _by("max_control_frames", blobs=lambda: _for_ever(ping(bytes(8)))),
    "settings": _by("max_control_frames", blobs=lambda: _for_ever(settings(()))),
    "priority": _by(
        "max_priorities", blobs=lambda: _for_ever(frame(PRIORITY, 0, 1, bytes(4) + b"\x10"))
    ),
    "window updates": _by("max_window_updates", blobs=_window_updates),
    "unknown frames": _by("max_control_frames", blobs=lambda: _for_ever(frame(0x77, 0, 0, b""))),
    "shut window": _by("downstream_rq_timeout", blobs=_shut_window),
    "dribble": _by("max_window_updates", blobs=_dribble),
    # Which of the two comes first depends on how much the kernel took before it was full.
    "never reading": _by(
        "downstream_cx_write_timeout", "downstream_rq_timeout", blobs=_never_reading, reads=False
    ),
    "half a block": _by("downstream_cx_head_timeout", blobs=_half_a_block),
    "no acknowledgement": _by(
        "settings_timeout", "downstream_rq_timeout", blobs=_no_acknowledgement, acknowledges=False
    ),
}


# ---- the attackers, a process of their own


@attrs.define
class Outcome:
    """What the attackers saw."""

    sent: int = 0
    """Bytes."""
    received: int = 0
    cut_off: int = 0
    """Connections that the proxy ended."""
    connections: int = 0


async def attack(port: int, name: str, connections: int, seconds: float) -> Outcome:
    """Attack from so many connections for so long."""
    chosen = ATTACKS[name]
    outcome = Outcome()

    async def one() -> None:
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(PAUSE)
                continue
            outcome.connections += 1
            if not chosen.reads:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            async with stream:
                await _attack_on(stream, chosen, outcome)
            outcome.cut_off += 1
            await trio.sleep(PAUSE)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(one)
    return outcome


async def _attack_on(stream: trio.SocketStream, chosen: Attack, outcome: Outcome) -> None:
    """Return once the connection has been ended."""

    async def read() -> None:
        try:
            while data := await stream.receive_some(65536):
                outcome.received += len(data)
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        if chosen.reads:
            nursery.start_soon(read)
        try:
            await stream.send_all(PREFACE + settings(()))
            if chosen.acknowledges:
                await stream.send_all(SETTINGS_ACK)
            for blob in chosen.blobs():
                await stream.send_all(blob)
                outcome.sent += len(blob)
            if not chosen.reads:
                while True:  # a peer that is reset can be seen without reading
                    await trio.sleep(0.1)
                    await stream.send_all(ping(bytes(8)))
            await trio.sleep_forever()
        except trio.BrokenResourceError:
            nursery.cancel_scope.cancel()


# ---- the measurement


@attrs.frozen
class Found:
    """What an attack did."""

    median: float
    """Of the good client, in seconds of the clock that was given."""
    growth: int
    """Most bytes of memory held beyond those at the start."""
    outcome: Outcome
    cpu: float
    """Seconds of the proxy's processor, the good client's share included."""
    wall: float
    counted: dict[str, int]
    """What the listener counted, by counter or by the name of the bound."""
    answered: int
    """Requests of the good client."""


def configuration(good: int, bad: int, timeouts: str = TIMEOUTS) -> str:
    """Return the proxy's configuration: good clients have an upstream of their own, and time while it is busy."""
    return (
        "listeners:\n"
        f"  - {{name: good, address: '127.0.0.1:0', routes: main, codecs: {CODECS}}}\n"
        f"  - {{name: edge, address: '127.0.0.1:0', routes: main, timeouts: {timeouts},"
        f" codecs: {CODECS}}}\n"
        "routes: {main: [{match: {path: /good}, cluster: good}, {cluster: bad}]}\n"
        "clusters:\n"
        f"  good: {{endpoints: ['127.0.0.1:{good}'], codec: http1}}\n"
        f"  bad: {{endpoints: ['127.0.0.1:{bad}'], codec: http1}}\n"
    )


def cpu_of(pid: int) -> float:
    """Return the processor time that a process has had, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def counters(proxy: Product) -> dict[str, int]:
    """Return what may say that an attacker was cut off."""
    stats = proxy.stats()
    found = {name: stats.get(f"listener.edge.{name}", 0) for name in COUNTERS}
    prefix = "listener.edge.downstream_cx_limit."
    found |= {k.removeprefix(prefix): v for k, v in stats.items() if k.startswith(prefix)}
    return found


def under_attack(
    proxy: Product,
    name: str,
    connections: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """Run one attack beside a good client, whose requests are timed by ``clock``."""
    before, cpu, resident = counters(proxy), cpu_of(proxy.worker), proxy.resident
    command = [sys.executable, __file__, "--attack", name, str(proxy.port), str(connections)]
    attackers = subprocess.Popen(
        [*command, str(seconds)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    taken: list[float] = []
    most = resident
    begin = time.perf_counter()
    try:
        while attackers.poll() is None:
            taken += good_client(proxy.ports["good"], min(0.25, seconds), clock)
            most = max(most, proxy.resident)
        assert attackers.stdout is not None
        outcome = Outcome(**json.loads(attackers.stdout.read()))
    finally:
        attackers.kill()
        attackers.wait()
        assert attackers.stdout is not None
        attackers.stdout.close()
    after = counters(proxy)
    return Found(
        statistics.median(taken),
        most - resident,
        outcome,
        cpu_of(proxy.worker) - cpu,
        time.perf_counter() - begin,
        {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)},
        len(taken),
    )


def report(name: str, alone: float, cost: float, found: Found) -> str:
    """Return a line about an attack. ``cost``: the processor's share of one good request, in seconds."""
    beside = max(found.cpu - cost * found.answered, 0.0)
    counted = ", ".join(f"{k} {v}" for k, v in found.counted.items()) or "nothing"
    sent = found.outcome.sent
    return (
        f"{name:20} p50 {found.median * 1e6:5.0f} µs ({found.median / alone:.2f} x)"
        f"  memory +{found.growth / 2**20:5.1f} MiB"
        f"  cut off {found.outcome.cut_off}/{found.outcome.connections}"
        f"  sent {sent / 2**20:7.2f} MiB  cpu {beside / found.wall * 100:3.0f} %"
        f" ({beside / max(sent, 1) * 2**20 * 1e3:.0f} ms/MiB)  counted: {counted}"
    )


def measure(proxy: Product, names: Sequence[str], sizes: Sequence[int], seconds: float) -> None:
    """Run the attacks one after the other, and print what each did."""
    good_client(proxy.ports["good"], 1.0)
    for connections in sizes:
        print(f"from {connections} connections, {seconds:g} s each")
        ratios = []
        for name in names:
            cpu = cpu_of(proxy.worker)
            taken = good_client(proxy.ports["good"], min(3.0, seconds))
            alone = statistics.median(taken)
            cost = (cpu_of(proxy.worker) - cpu) / len(taken)
            found = under_attack(proxy, name, connections, seconds)
            ratios.append(found.median / alone)
            print(report(name, alone, cost, found), flush=True)
            proxy.settled()
        mean = math.prod(ratios) ** (1 / len(ratios))
        print(f"ratio of the medians: mean {mean:.2f}, worst {max(ratios):.2f}")


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    if arguments[:1] == ["--attack"]:
        name, port, connections, seconds = arguments[1:]
        outcome = trio.run(attack, int(port), name, int(connections), float(seconds))
        print(json.dumps(attrs.asdict(outcome)))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", default="1,100")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.connections.split(",")]
    with (
        tempfile.TemporaryDirectory() as work,
        upstream("web") as good,
        upstream("web") as bad,
        product(configuration(good, bad), Path(work)) as proxy,
    ):
        measure(proxy, options.names or list(ATTACKS), sizes, options.seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
