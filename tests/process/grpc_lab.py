"""A process with gRPC's reference implementation in it: a server, and clients that do what they are told.

``python -m tests.process.grpc_lab`` prints the port of the server, then reads ``SCENARIO PORT`` line by line and
answers each with a line of JSON. ``tls CA NAME SCENARIO PORT``: the same over TLS, with the authority of that file,
to a server of that name. In a process of its own, as the library's threads and sockets outlive any test.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import grpc

from tests.interop.tap import tap
from tests.process.grpc_peers import (
    LARGE,
    PIECE,
    Outcome,
    Seen,
    ask,
    ask_stream,
    ask_upload,
    both_ways,
    channel,
    download,
    path,
    server,
    unary,
)
from tests.process.product import PATIENCE, ROOT

Scenario = Callable[[grpc.Channel, Seen], object]
"""Returns what the client saw, as something that JSON can say or an Outcome."""

BINARY: Final = bytes(range(256))
METADATA: Final = (
    ("x-plain", "printable ascii, with = and ; and %41"),
    ("x-twice", "one"),
    ("x-twice", "two"),
    ("x-bytes-bin", BINARY),
    ("x-empty-bin", b""),
)
MANY: Final = tuple((f"x-many-{n}", str(n) * 20) for n in range(80))
LONG: Final = (("x-long", "l" * 20_000),)
PINGS: Final = 6
"""The library sends one a second, at most."""


def failing(number: int, via: grpc.Channel, _: Seen) -> object:
    """Ask for a failure, with details."""
    return ask(via, "Fail", b"%d" % number)


def concurrent(via: grpc.Channel, _: Seen) -> object:
    """Have a hundred streams at once, each with messages of its own, all open before the first one ends."""
    together = threading.Barrier(100, timeout=PATIENCE)

    def requests(number: int) -> Iterator[bytes]:
        yield b"first %d" % number
        together.wait()
        for n in range(20):
            yield b"%d %d" % (number, n)

    def one(number: int) -> bool:
        found = ask_stream(via, "Chat", requests(number))
        wanted = [b"first %d" % number, *[b"%d %d" % (number, n) for n in range(20)]]
        return found.messages == tuple(m[::-1] for m in wanted)

    with ThreadPoolExecutor(100) as pool:
        return sum(pool.map(one, range(100)))


def deadline(via: grpc.Channel, seen: Seen) -> object:
    """Wait two seconds for an answer that never comes; the server hears of it."""
    seen.cancelled.clear()
    started = time.monotonic()
    found = ask(via, "Silent", b"", timeout=2.0)
    spent = time.monotonic() - started
    return [found.code.name, 1.9 < spent < PATIENCE, seen.cancelled.wait(PATIENCE)]


def deadline_in_a_stream(via: grpc.Channel, seen: Seen) -> object:
    """The same when the first message has come."""
    seen.cancelled.clear()
    found = ask_stream(via, "Hang", b"", timeout=2.0)
    return [found.code.name, len(found.messages), seen.cancelled.wait(PATIENCE)]


def time_left(via: grpc.Channel, _: Seen) -> object:
    """Ask the server how much time it was given."""
    left = int(ask(via, "Left", b"", timeout=PATIENCE).messages[0])
    # A second more than was given: gRPC rounds a timeout up, and reckons what is left by another clock.
    return [
        0 < left <= 1000 * (PATIENCE + 1),
        ask(via, "Left", b"", timeout=None).messages[0].decode(),
    ]


def cancelled(via: grpc.Channel, seen: Seen) -> object:
    """Cancel a stream after its first message; the server hears of it at once."""
    seen.cancelled.clear()
    call = download(via, "Hang")(b"", timeout=200.0)
    first = next(call)
    call.cancel()
    return [first.decode(), call.code().name, seen.cancelled.wait(PATIENCE)]


def cancelled_unary(via: grpc.Channel, seen: Seen) -> object:
    """Cancel a call before its answer."""
    seen.cancelled.clear()
    seen.started.clear()
    call = unary(via, path("Silent")).future(b"", timeout=200.0)
    started = seen.started.wait(PATIENCE)
    call.cancel()
    return [started, call.code().name, seen.cancelled.wait(PATIENCE)]


def gone(via: grpc.Channel, seen: Seen) -> object:
    """Close the connection in the middle of a stream."""
    seen.cancelled.clear()
    call = download(via, "Hang")(b"", timeout=200.0)
    first = next(call)
    via.close()
    return [first.decode(), seen.cancelled.wait(PATIENCE)]


def retried(via: grpc.Channel, seen: Seen) -> object:
    """Ask what fails twice and then answers."""
    seen.attempts = 0
    found = ask(via, "Flaky", b"")
    return [found.code.name, [m.decode() for m in found.messages], seen.attempts]


def long_quiet(via: grpc.Channel, _: Seen) -> object:
    """Have a stream of both kinds in which the server's head comes long before its first message."""
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        go_on.wait(PATIENCE)
        yield b"late"

    call = both_ways(via, "Chat")(requests(), timeout=200.0)
    go_on.set()
    return [m.decode() for m in call]


def to_gone(via: grpc.Channel, _: Seen) -> object:
    """Call a service whose upstream cannot be reached."""
    return _failure(via, "/lab.Gone/Unary")


def to_nowhere(via: grpc.Channel, _: Seen) -> object:
    """Call a service that has no route."""
    return _failure(via, "/other.Service/Unary")


def slow_route(via: grpc.Channel, _: Seen) -> object:
    """Call what takes longer than its route allows."""
    return _failure(via, "/lab.Slow/Silent")


def slow_stream(via: grpc.Channel, _: Seen) -> object:
    """The same for a stream whose answer has begun."""
    stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = via.unary_stream("/lab.Slow/Hang")
    call = stream(b"", timeout=200.0)
    found: list[str] = []
    with contextlib.suppress(grpc.RpcError):
        found.extend(message.decode() for message in call)
    return [found, call.code().name, dict(call.trailing_metadata())]


def _failure(via: grpc.Channel, full: str) -> list[str]:
    try:
        unary(via, full)(b"", timeout=200.0)
    except grpc.RpcError as error:
        return [error.code().name, error.details() or ""]
    return ["OK", ""]


SCENARIOS: Final[dict[str, Scenario]] = {
    "unary": lambda c, _: ask(c, "Unary", b"hello"),
    "empty": lambda c, _: ask(c, "Unary", b""),
    "metadata": lambda c, _: ask(c, "Unary", b"m", metadata=METADATA),
    "much metadata": lambda c, _: ask(c, "Unary", b"m", metadata=MANY),
    "long metadata": lambda c, _: ask(c, "Unary", b"m", metadata=LONG),
    "16 MiB": lambda c, _: ask(c, "Unary", PIECE * (LARGE // len(PIECE))),
    "gzip": lambda c, _: ask(c, "Unary", PIECE * 64, compression=grpc.Compression.Gzip),
    "unknown method": lambda c, _: ask(c, "Nothing", b""),
    "server stream": lambda c, _: ask_stream(c, "Download", b"300"),
    "server stream that fails": lambda c, _: ask_stream(c, "Download", b"301"),
    "server stream of nothing": lambda c, _: ask_stream(c, "Download", b"0"),
    "failure after a message": lambda c, _: ask_stream(c, "Download", b"1"),
    "client stream": lambda c, _: ask_upload(c, [PIECE] * 200),
    "client stream of nothing": lambda c, _: ask_upload(c, []),
    "both streams": lambda c, _: ask_stream(c, "Chat", [b"%d" % n for n in range(300)]),
    **{f"failure {code.name}": partial(failing, n) for n, code in enumerate(grpc.StatusCode) if n},
    "concurrent": concurrent,
    "deadline": deadline,
    "deadline in a stream": deadline_in_a_stream,
    "time left": time_left,
    "cancelled": cancelled,
    "cancelled unary": cancelled_unary,
    "gone": gone,
    "long quiet": long_quiet,
}
"""Those that must be the same on every way."""
OTHERS: Final[dict[str, Scenario]] = {
    "retried": retried,
    "to gone": to_gone,
    "to nowhere": to_nowhere,
    "slow route": slow_route,
    "slow stream": slow_stream,
}
"""Those that mean something through the proxy only."""


def slow_readers(port: int, seen: Seen) -> object:
    """Two clients take nothing of a large stream each; a third one asks for ten bytes."""
    seen.sent = 0
    more = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"4000"
        more.wait(120)

    with channel(port) as one, channel(port) as two, channel(port) as third:
        calls = [both_ways(via, "Flood")(requests(), timeout=120.0) for via in (one, two)]
        for call in calls:
            next(call)
        _still(lambda: seen.sent)
        found = _small(third)
        more.set()
        for call in calls:
            call.cancel()
    return found


def stuck_uploads(port: int, seen: Seen) -> object:
    """Two calls of one client send what their server does not take; small ones of it and of a stranger follow."""
    sent = [0, 0]
    over = threading.Event()

    def requests(number: int) -> Iterator[bytes]:
        while not over.is_set():
            sent[number] += 1
            yield PIECE * 4

    with channel(port) as busy, channel(port) as other:
        full = path("Stuck")
        upload: grpc.StreamUnaryMultiCallable[bytes, bytes] = busy.stream_unary(full)
        calls = [upload.future(requests(n), timeout=120.0) for n in range(2)]
        _still(lambda: sum(sent))
        found = [_small(busy), _small(other)]
        over.set()
        for call in calls:
            call.cancel()
    return found


def given_up(port: int, seen: Seen) -> object:
    """A hundred calls at a time are given up by their deadlines, beside a stream that goes on."""
    more = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"one"
        more.wait(120)
        yield b"two"

    with channel(port) as via:
        chat = both_ways(via, "Chat")(requests(), timeout=120.0)
        first = next(chat)
        codes: set[str] = set()
        for _ in range(3):
            calls = [unary(via, path("Silent")).future(b"", timeout=2.0) for _ in range(90)]
            codes |= {call.code().name for call in calls}
        more.set()
        return [first.decode(), sorted(codes), next(chat).decode(), _small(via)]


def pinging(port: int, seen: Seen) -> object:
    """Ask as often as may be whether the connection lives, beside a stream that says nothing for long."""
    more = threading.Event()
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"one"
        more.wait(240)
        yield b"two"

    with tap(port) as between:
        options = (
            ("grpc.keepalive_time_ms", 10),
            ("grpc.keepalive_timeout_ms", 60_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        )
        with channel(between.port, *options) as via:
            chat = both_ways(via, "Chat")(requests(), timeout=240.0)
            chat.add_callback(over.set)
            first = next(chat)
            (said,) = between.said
            while _pings(bytes(said.data)) < PINGS and not over.wait(0.1):
                pass
            more.set()
            return [first.decode(), next(chat).decode(), _small(via), len(between.said)]


def _pings(said: bytes) -> int:
    """Return how many PING frames, and no answers to such, a client has sent on a connection."""
    count, at = 0, len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    while at + 9 <= len(said):
        count += said[at + 3 : at + 5] == b"\6\0"
        at += 9 + int.from_bytes(said[at : at + 3])
    return count


def _still(count: Callable[[], int]) -> None:
    """Return once nothing has moved for a second."""
    before = -1
    while before != count():
        before = count()
        time.sleep(1.0)


def _small(via: grpc.Channel) -> object:
    """Make a small call; a neighbour that stands still would let it run into its deadline."""
    return ask(via, "Unary", b"ten bytes!", timeout=PATIENCE).code.name


WITH_NEIGHBOURS: Final[dict[str, Callable[[int, Seen], object]]] = {
    "slow readers": slow_readers,
    "stuck uploads": stuck_uploads,
    "given up": given_up,
    "pinging": pinging,
}
"""Those that make their own channels."""


def flood(port: int, count: int, seen: Seen) -> Generator[object, None, None]:
    """Ask for a flood and take nothing of it; at the next step take it all. Gives what was sent before, and came."""
    seen.sent = 0
    more = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"%d" % count
        more.wait(240)

    with channel(port) as via:
        call = both_ways(via, "Flood")(requests(), timeout=300.0)
        next(call)
        before = -1
        while before != seen.sent:  # until nothing moves any more
            before = seen.sent
            time.sleep(0.5)
        yield before
        came = 1 + sum(1 for _ in call)
        more.set()
        yield [came, call.code().name]


def _plain(found: object) -> object:
    return repr(found) if isinstance(found, Outcome) else found


@contextmanager
def _connected(name: str, port: int) -> Iterator[tuple[Scenario, grpc.Channel]]:
    if not name.startswith("tls "):
        with channel(port) as via:
            yield SCENARIOS.get(name) or OTHERS[name], via
        return
    _, authority, host, scenario = name.split(" ", 3)
    credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes())
    named = ("grpc.ssl_target_name_override", host)
    with channel(port, named, credentials=credentials) as via:
        yield SCENARIOS[scenario], via


def main() -> None:
    """Serve until the input ends."""
    seen = Seen()
    floods: dict[str, Generator[object, None, None]] = {}
    with server(seen) as direct:
        print(direct, flush=True)
        for line in sys.stdin:
            name, _, port = line.strip().rpartition(" ")
            if name.startswith("flood "):
                under_way = floods.pop(port, None)
                if under_way is None:
                    floods[port] = flood(int(port), int(name.partition(" ")[2]), seen)
                    found = next(floods[port])
                else:
                    found = next(under_way)
                    under_way.close()
            elif name in WITH_NEIGHBOURS:
                found = WITH_NEIGHBOURS[name](int(port), seen)
            else:
                with _connected(name, int(port)) as (scenario, via):
                    found = _plain(scenario(via, seen))
            print(json.dumps(found), flush=True)


@attrs.define(eq=False)
class Lab:
    """The process, from outside."""

    process: subprocess.Popen[str]
    direct: int
    """The port of its server."""

    def run(self, scenario: str, port: int, within: float = 60.0) -> object:
        """Let it play a scenario against a port, and return what came of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{scenario} {port}\n")
        self.process.stdin.flush()
        return json.loads(_line(self.process, within))


def _line(process: subprocess.Popen[str], within: float) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(within):
            raise AssertionError(f"the lab said nothing in {within:g} s")
    line = process.stdout.readline()
    assert line, "the lab has ended"
    return line


@contextmanager
def lab() -> Iterator[Lab]:
    """Run one; leaving kills it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.process.grpc_lab"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield Lab(process, int(_line(process, PATIENCE)))
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


if __name__ == "__main__":
    main()
