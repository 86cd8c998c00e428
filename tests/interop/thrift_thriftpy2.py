"""thriftpy2 as a peer: ``python thrift_thriftpy2.py IDL serve``, or ``… call DIALECT:PORT …``.

As ``thrift_pypi.py``. Its own JSON protocol is nobody else's; that of Apache's libraries is ``TApacheJSONProtocol``.
It keeps the first message that it read: a client is good for one call, and a server answers that one for ever.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import thriftpy2
from thriftpy2.protocol import (
    TApacheJSONProtocolFactory,
    TBinaryProtocolFactory,
    TCompactProtocolFactory,
    TCyBinaryProtocolFactory,
    TMultiplexedProtocolFactory,
)
from thriftpy2.rpc import client_context
from thriftpy2.server import TThreadedServer
from thriftpy2.thrift import (
    TApplicationException,
    TMultiplexedProcessor,
    TProcessor,
)
from thriftpy2.transport import (
    TBufferedTransportFactory,
    TCyBufferedTransportFactory,
    TCyFramedTransportFactory,
    TFramedTransportFactory,
    TServerSocket,
)

Peer = Any  # what thriftpy2 makes of an interface has no types

DIALECTS: dict[str, tuple[Callable[[], Peer], Callable[[], Peer]]] = {
    "unframed-binary": (TBufferedTransportFactory, TBinaryProtocolFactory),
    "unframed-compact": (TBufferedTransportFactory, TCompactProtocolFactory),
    "unframed-json": (TBufferedTransportFactory, TApacheJSONProtocolFactory),
    "framed-binary": (TFramedTransportFactory, TBinaryProtocolFactory),
    "framed-compact": (TFramedTransportFactory, TCompactProtocolFactory),
    "framed-json": (TFramedTransportFactory, TApacheJSONProtocolFactory),
    "unframed-binary-cython": (TCyBufferedTransportFactory, TCyBinaryProtocolFactory),
    "framed-binary-cython": (TCyFramedTransportFactory, TCyBinaryProtocolFactory),
}


class Handler:
    """Answers."""

    def __init__(self, idl: Peer) -> None:
        self._idl = idl
        self._fired: set[int] = set()

    def add(self, a: int, b: int) -> int:
        return a + b

    def echo(self, s: str) -> str:
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
        raise self._idl.Bad(why=why, code=-7)

    def nothing(self) -> None:
        """Answer with nothing."""


def serve(idl: Peer) -> None:
    handler, ports = Handler(idl), {}
    for dialect, (transports, protocols) in DIALECTS.items():
        if "json" in dialect:
            continue
        for suffix in ("", "-mux"):
            processor: Peer = TProcessor(idl.Calc, handler)
            if suffix:
                single = processor
                processor = TMultiplexedProcessor()
                processor.register_processor("Calc", single)
            listening = socket.create_server(("127.0.0.1", 0))
            ports[dialect + suffix] = listening.getsockname()[1]
            server = TThreadedServer(
                processor,
                _Listening(listening),
                iprot_factory=protocols(),
                itrans_factory=transports(),
                daemon=True,
            )
            threading.Thread(target=server.serve, daemon=True).start()
    print(json.dumps(ports), flush=True)
    threading.Event().wait()


class _Listening(TServerSocket):
    """A socket that listens already, so that its port is known."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(host="127.0.0.1", port=0)  # type: ignore[no-untyped-call]  # thriftpy2's own
        self.sock = listening

    def listen(self) -> None:
        """It does."""


def call(idl: Peer, dialect: str, port: int) -> list[str]:
    mux = dialect.endswith("-mux")
    transports, protocols = DIALECTS[dialect.removesuffix("-mux")]
    made_of: Peer = protocols()
    said: list[str] = []

    def note(name: str, made: Callable[[], object]) -> None:
        try:
            said.append(f"{name}: {made()!r}")
        except (TApplicationException, idl.Bad) as exc:
            said.append(f"{name}: {type(exc).__name__} {exc.__dict__}")

    record = idl.Rec(
        name="grüße 𝄞",
        n=41,
        tags=["a", "", "ü"],
        m={"x": 1 << 40, "y": -1},
        raw=bytes(range(256)),
        d=-1.5e300,
        on=True,
        s=[-3, 300],
        c=idl.Color.BLUE,
        b=-128,
    )
    token = int(time.monotonic() * 1e6) % (1 << 31)
    calls: list[tuple[str, Callable[[Peer], object]]] = [
        ("add", lambda client: client.add(-5, 3)),
        ("echo", lambda client: client.echo('grüße "\\" \n 𝄞')),
        ("large", lambda client: len(client.echo("x" * (5_000 if "json" in dialect else 100_000)))),
        ("rec", lambda client: _plain(client.rec(record))),
        ("empty rec", lambda client: _plain(client.rec(idl.Rec(n=0)))),
        ("fail", lambda client: client.fail("because")),
        ("fire", lambda client: client.fire(token)),
        ("fired", lambda client: client.echo(f"fired {token}")),
        ("nothing", lambda client: client.nothing()),
        ("add", lambda client: client.add(1, 2)),
    ]
    rounds = [[one] for one in calls] if "json" in dialect else [calls]
    for together in rounds:
        with client_context(
            idl.Calc,
            "127.0.0.1",
            port,
            proto_factory=TMultiplexedProtocolFactory(made_of, "Calc") if mux else made_of,
            trans_factory=transports(),
            connect_timeout=60000,
            socket_timeout=60000,
        ) as client:
            for name, made in together:
                note(name, partial(made, client))
    return said


def _plain(record: Peer) -> dict[str, object]:
    return {
        name: sorted(value) if name == "s" and value else value
        for name, value in record.__dict__.items()
    }


def main() -> None:
    """See the module."""
    logging.disable()
    idl = thriftpy2.load(sys.argv[1], module_name="calc_thrift")
    if sys.argv[2] == "serve":
        serve(idl)
    told = {}
    for argument in sys.argv[3:]:
        dialect, _, port = argument.rpartition(":")
        told[dialect] = call(idl, dialect, int(port))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
