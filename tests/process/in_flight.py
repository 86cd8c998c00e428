"""Clients of each protocol with something in flight, for tests of what a takeover makes of it.

Each can tell in the end how it fared: everything went on as if nothing had been (``WHOLE``), its connection went on
and what was in flight was reset as its protocol does it (``RESET``), or its connection has ended (``ENDED``).
Anything else fails.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import attrs

from tests.process.http2_blocking import Http2
from tests.process.load import REQUEST

WHOLE: Final = "whole"
RESET: Final = "reset"
ENDED: Final = "ended"


class Client(Protocol):
    """One, which has been answered once and has something in flight, if its protocol can."""

    def fare(self, *, later: bool = True) -> str:
        """Bring what is in flight to its end, and ask once more, if ``later``; return how it fared."""
        ...


@attrs.define(eq=False)
class Http1:
    """Between two requests: what is in flight keeps an HTTP/1.1 connection where it is."""

    sock: socket.socket

    def __attrs_post_init__(self) -> None:
        assert self._answered()

    def _answered(self) -> bool:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.sock.sendall(REQUEST)
            received = b""
            while b"\r\n\r\n" not in received:
                data = self.sock.recv(65536)
                if not data:
                    return False
                received += data
            assert received.startswith(b"HTTP/1.1 200 "), received
            return True
        return False

    def fare(self, *, later: bool = True) -> str:
        """See Client."""
        return WHOLE if self._answered() and (not later or self._answered()) else ENDED


@attrs.define(eq=False)
class Streams:
    """Two streams of HTTP/2: of one the answer has not begun, on the other pieces go to and fro."""

    sock: socket.socket
    kind: str
    """Of their content."""
    http2: Http2 = attrs.field(init=False)
    held: int = 0
    chat: int = 0

    def __attrs_post_init__(self) -> None:
        self.http2 = Http2(self.sock, client=True)
        assert self._answered()
        self.held = self.http2.ask("/held", self.kind, b"held", ends=False)
        self.chat = self.http2.ask("/chat", self.kind, b"one", ends=False)
        chat = self.http2.streams[self.chat]
        assert self.http2.until(lambda: chat.body == b"one")

    def _answered(self) -> bool:
        streams = self.http2.streams
        stream = self.http2.ask("/held", self.kind, b"short", ends=True)
        if not self.http2.until(lambda: streams[stream].over):
            return False
        if self.http2.going and streams[stream].reset:
            return False
        assert streams[stream].ended, streams[stream]
        assert streams[stream].body == b"short", streams[stream]
        assert streams[stream].fields["grpc-status"] == "0"
        return True

    def fare(self, *, later: bool = True) -> str:
        """See Client."""
        http2 = self.http2
        held, chat = http2.streams[self.held], http2.streams[self.chat]
        http2.say(self.chat, b" two")
        if not http2.until(lambda: chat.over or chat.body == b"one two"):
            return ENDED
        http2.say(self.chat, b" three", ends=True)
        http2.say(self.held, b" and all", ends=True)
        if not http2.until(lambda: held.over and chat.over):
            return ENDED
        lost = self._unavailable(chat.fields) if chat.ended else chat.reset
        if not lost:
            assert (held.ended, chat.body) == (True, b"one two three"), (held, chat)
            assert held.body == b"held and all", held
            assert held.fields["grpc-status"] == chat.fields["grpc-status"] == "0"
        else:
            # What had not begun gets an answer that says so; what had is reset, of gRPC by its status.
            assert held.ended, held
            assert self._unavailable(held.fields), held
        if later and not self._answered():
            return ENDED
        return RESET if lost else WHOLE

    def _unavailable(self, fields: dict[str, str]) -> bool:
        if self.kind == "application/grpc":
            return (fields[":status"], fields.get("grpc-status")) == ("200", "14")
        return fields[":status"] == "503"


@attrs.define(eq=False)
class Raw:
    """Bytes that go to and fro."""

    sock: socket.socket

    def __attrs_post_init__(self) -> None:
        assert self._echoed(b"to and fro")

    def _echoed(self, data: bytes) -> bool:
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)
            got = b""
            while len(got) < len(data):
                more = self.sock.recv(65536)
                if not more:
                    return False
                got += more
            assert got == data
            return True
        return False

    def fare(self, *, later: bool = True) -> str:
        """See Client."""
        if not self._echoed(b"and on"):
            return ENDED
        if later:
            self.sock.shutdown(socket.SHUT_WR)
            assert self.sock.recv(1) == b"", "both directions end in order"
        return WHOLE


@attrs.frozen
class Kind:
    """Clients of one protocol, and the proxy that they need."""

    name: str
    client: Callable[[socket.socket], Client]
    upstream: str
    """Which of the test's servers they talk to in the end."""
    counted: str
    """What their connections are counted as."""
    route: str = "routes: main"
    cluster: str = ""
    alpn: tuple[str, ...] = ()
    tls: bool = True
    relayed: bool = False
    """What is in flight stays where it began."""

    def configuration(self, port: int, cert: Path, key: Path) -> str:
        """Return the file of a proxy, whose upstream is at ``port``; ``{0}`` is its address."""
        tls = f"    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}\n" if self.tls else ""
        return (
            "listeners:\n"
            "  - name: edge\n"
            "    address: '{0}'\n"
            f"    {self.route}\n"
            f"{tls}"
            "routes: {main: [{cluster: main, timeout: 0}]}\n"
            f"clusters: {{main: {{endpoints: ['127.0.0.1:{port}']{self.cluster}}}}}\n"
        )


def _streams(kind: str) -> Callable[[socket.socket], Client]:
    return lambda sock: Streams(sock, kind)


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("http1", Http1, "web", "http1"),
        Kind(
            *("http2", _streams("text/plain"), "streams", "http2"),
            cluster=", codec: http2",
            alpn=("h2",),
            relayed=True,
        ),
        Kind(
            *("grpc", _streams("application/grpc"), "streams", "http2"),
            cluster=", codec: http2",
            alpn=("h2",),
            relayed=True,
        ),
        Kind("raw", Raw, "echo", "tcp", route="fallback: {cluster: main}", tls=False),
    )
}
