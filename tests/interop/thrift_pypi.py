"""PyPI's thrift as a peer: ``python thrift_pypi.py GENERATED serve``, or ``… call DIALECT:PORT …``.

The server listens on a port for each dialect and prints them as one line of JSON. The client makes the same calls in
each dialect and prints what came of them.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from thrift import TMultiplexedProcessor  # type: ignore[import-untyped]  # ships no types
from thrift.protocol import (  # type: ignore[import-untyped]  # as above
    TBinaryProtocol,
    TCompactProtocol,
    THeaderProtocol,
    TJSONProtocol,
    TMultiplexedProtocol,
)
from thrift.server.TServer import TThreadedServer  # type: ignore[import-untyped]  # as above
from thrift.Thrift import TApplicationException  # type: ignore[import-untyped]  # as above
from thrift.transport import TSocket, TTransport  # type: ignore[import-untyped]  # as above
from thrift.transport.THeaderTransport import (  # type: ignore[import-untyped]  # as above
    THeaderClientType,
    THeaderSubprotocolID,
    THeaderTransformID,
)

Peer = Any  # thrift and what it generates are untyped

TRANSPORTS: dict[str, Callable[[], Peer]] = {
    "unframed": TTransport.TBufferedTransportFactory,
    "framed": TTransport.TFramedTransportFactory,
}
PROTOCOLS: dict[str, Callable[[], Peer]] = {
    "binary": TBinaryProtocol.TBinaryProtocolFactory,
    "binary-old": lambda: TBinaryProtocol.TBinaryProtocolFactory(
        strictRead=False, strictWrite=False
    ),
    "compact": TCompactProtocol.TCompactProtocolFactory,
    "json": TJSONProtocol.TJSONProtocolFactory,
}
HEADERS = {
    "binary": THeaderSubprotocolID.BINARY,
    "compact": THeaderSubprotocolID.COMPACT,
}
DIALECTS = [f"{transport}-{protocol}" for transport in TRANSPORTS for protocol in PROTOCOLS]
DIALECTS += [f"header-{protocol}" for protocol in HEADERS]


class Handler:
    """Answers."""

    def __init__(self, generated: Peer) -> None:
        self._types = generated
        self._fired: set[int] = set()

    def add(self, a: int, b: int) -> int:
        return a + b

    def echo(self, s: str) -> str:
        if s == "crash":
            raise RuntimeError("as asked")
        if s.startswith("fired "):
            deadline = time.monotonic() + 60.0
            while int(s[6:]) not in self._fired and time.monotonic() < deadline:
                time.sleep(0.005)
            return str(int(s[6:]) in self._fired)
        return s

    def rec(self, r: Peer) -> Peer:
        r.n += 1
        return r

    def fire(self, n: int) -> None:
        self._fired.add(n)

    def fail(self, why: str) -> None:
        raise self._types.Bad(why=why, code=-7)

    def nothing(self) -> None:
        """Answer with nothing."""


def factories(dialect: str) -> tuple[Peer, Peer]:
    transport, _, protocol = dialect.partition("-")
    if transport == "header":
        return (
            TTransport.TTransportFactoryBase(),
            THeaderProtocol.THeaderProtocolFactory((THeaderClientType.HEADERS,), HEADERS[protocol]),
        )
    return TRANSPORTS[transport](), PROTOCOLS[protocol]()


def serve(calc: Peer, generated: Peer) -> None:
    handler, ports = Handler(generated), {}
    for dialect in DIALECTS:
        for suffix in ("", "-mux"):
            processor: Peer = calc.Processor(handler)
            if suffix:
                single = processor
                processor = TMultiplexedProcessor.TMultiplexedProcessor()
                processor.registerProcessor("Calc", single)
            socket = TSocket.TServerSocket("127.0.0.1", 0)
            socket.listen()
            ports[dialect + suffix] = socket.handle.getsockname()[1]
            socket.listen = lambda: None  # the server listens again otherwise
            server = TThreadedServer(processor, socket, *factories(dialect), daemon=True)
            threading.Thread(target=server.serve, daemon=True).start()
    print(json.dumps(ports), flush=True)
    threading.Event().wait()


def call(calc: Peer, types: Peer, dialect: str, port: int) -> list[str]:
    mux = dialect.endswith("-mux")
    plain = dialect.removesuffix("-mux").removesuffix("-zlib")
    socket = TSocket.TSocket("127.0.0.1", port)
    socket.setTimeout(15000)
    transports, protocols = factories(plain)
    transport = transports.getTransport(socket)
    protocol = protocols.getProtocol(transport)
    if dialect.endswith("-zlib"):
        protocol.trans.add_transform(THeaderTransformID.ZLIB)
    if plain.startswith("header"):
        protocol.trans.set_header(b"tenant", b"blue")
    client = calc.Client(
        TMultiplexedProtocol.TMultiplexedProtocol(protocol, "Calc") if mux else protocol
    )
    socket.open()
    said: list[str] = []

    def note(name: str, made: Callable[[], object]) -> None:
        try:
            said.append(f"{name}: {made()!r}")
        except (TApplicationException, types.Bad) as exc:
            what = exc.type if isinstance(exc, TApplicationException) else exc
            said.append(f"{name}: {type(exc).__name__} {what!r}")

    record = types.Rec(
        name="grüße 𝄞",
        n=41,
        tags=["a", "", "ü"],
        m={"x": 1 << 40, "y": -1},
        raw=bytes(range(256)),
        d=-1.5e300,
        on=True,
        s={-3, 300},
        c=types.Color.BLUE,
        b=-128,
    )
    token = int(time.monotonic() * 1e6) % (1 << 31)
    note("add", lambda: client.add(-5, 3))
    note("echo", lambda: client.echo('grüße "\\" \n 𝄞'))
    note("large", lambda: len(client.echo("x" * 100_000)))
    note("rec", lambda: client.rec(record).__dict__)
    note("empty rec", lambda: client.rec(types.Rec(n=0)).__dict__)
    note("fail", lambda: client.fail("because"))
    note("crash", lambda: client.echo("crash"))
    note("fire", lambda: client.fire(token))
    note("fired", lambda: client.echo(f"fired {token}"))
    note("nothing", client.nothing)
    note("add", lambda: client.add(1, 2))
    socket.close()
    return said


def main() -> None:
    """See the module."""
    sys.path.insert(0, sys.argv[1])
    logging.disable()
    from calc import Calc, ttypes  # type: ignore[import-not-found]  # generated by the test

    if sys.argv[2] == "serve":
        serve(Calc, ttypes)
    told = {}
    for argument in sys.argv[3:]:
        dialect, _, port = argument.rpartition(":")
        told[dialect] = call(Calc, ttypes, dialect, int(port))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
