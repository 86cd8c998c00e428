"""One connection of the load: a socket that never waits, TLS if it has some, and what is said on it."""

from __future__ import annotations

import os
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Literal

import attrs

from bench.takeover.speakers.speaker import Answer, Broken, Speaker, Turning

_CHUNK_BYTES = 1 << 16
_UNSENT_BYTES = 8 << 20
"""A peer that leaves so much untaken is given up: more would make the client slow, not the proxy."""


@attrs.define(eq=False)
class Asked:
    """A request whose answer is not there yet."""

    due: float
    """When it should have been sent."""
    sent: float


@attrs.define(eq=False)
class Line:
    """See the module. Times are of ``time.monotonic``, which all processes of a machine share."""

    index: int
    """In the order of opening; the nonces are made from it."""
    kind: str
    speaker: Speaker
    context: ssl.SSLContext | None
    server_name: str
    sock: socket.socket
    state: Literal["connecting", "securing", "greeting", "open", "closed"] = "connecting"
    closed_at: float = 0.0
    why: str = ""
    """Why it was closed, if it was."""
    waiting: deque[float] = attrs.field(factory=deque)
    """When requests were due that could not be sent yet."""
    asked: dict[int, Asked] = attrs.field(factory=dict)
    """By number."""
    next_number: int = 0
    wants_out: bool = False
    _unsent: bytearray = attrs.field(factory=bytearray)
    _tls: ssl.SSLObject | None = None
    _into: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    _out: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)

    def connected(self) -> None:
        """Go on after the socket is connected.

        Raises:
            Broken: it is not.
        """
        if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise Broken(f"cannot connect: {os.strerror(error)}")
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            self._greet()
        else:
            self.state = "securing"
            self._tls = self.context.wrap_bio(
                self._into, self._out, server_hostname=self.server_name
            )
            self._shake_hands()

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._write_raw(self._out.read())
            return
        except ssl.SSLError as exc:
            raise Broken(f"no TLS: {exc}") from exc
        self._write_raw(self._out.read())
        self._greet()

    def _greet(self) -> None:
        self.state = "greeting"
        self._write(self.speaker.begin())
        if self.speaker.ready:
            self.state = "open"

    @property
    def may_ask(self) -> bool:
        return self.state == "open" and not (self.speaker.serial and self.asked)

    def ask(self, due: float, now: float) -> None:
        """Send a request that was due, now or as soon as the protocol allows it."""
        if not self.may_ask:
            self.waiting.append(due)
            return
        number = self.next_number
        self.next_number += 1
        self.asked[number] = Asked(due, now)
        self._write(self.speaker.ask(number))

    def turn(self) -> None:
        """End what lasts on it, and begin it anew; of most protocols there is nothing.

        Raises:
            Broken: the connection is over.
        """
        if self.state == "open" and isinstance(self.speaker, Turning):
            self._write(self.speaker.turn())

    def read(self) -> Sequence[Answer]:
        """Take what there is; return what it answers.

        Raises:
            Broken: the connection is over.
        """
        try:
            data = self.sock.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return ()
        except OSError as exc:
            raise Broken(f"{type(exc).__name__} while {self.state}") from exc
        if not data:
            raise Broken(f"closed by the peer while {self.state}")
        if self._tls is not None:
            self._into.write(data)
            if self.state == "securing":
                self._shake_hands()
                if self.state == "securing":
                    return ()
            data = self._decrypted(self._tls)
        if not data:
            return ()
        answers, owed = self.speaker.receive(data)
        if owed:
            self._write(owed)
        if self.state == "greeting" and self.speaker.ready:
            self.state = "open"
        return answers

    def _decrypted(self, tls: ssl.SSLObject) -> bytes:
        pieces = []
        try:
            while piece := tls.read(_CHUNK_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            raise Broken(f"TLS: {exc}") from exc
        else:
            raise Broken("TLS was ended by the peer")
        self._write_raw(self._out.read())  # what TLS itself owes
        return b"".join(pieces)

    def _write(self, data: bytes) -> None:
        if self._tls is not None and data:
            try:
                self._tls.write(data)
            except ssl.SSLError as exc:
                raise Broken(f"TLS: {exc}") from exc
            data = self._out.read()
        self._write_raw(data)

    def _write_raw(self, data: bytes) -> None:
        if not data:
            return
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what is unsent, as far as the socket takes it; ``wants_out`` says whether something is left.

        Raises:
            Broken: the connection is over.
        """
        try:
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as exc:
            raise Broken(f"{type(exc).__name__} while {self.state}") from exc
        if len(self._unsent) > _UNSENT_BYTES:
            raise Broken(f"{len(self._unsent)} bytes are not taken")
        self.wants_out = bool(self._unsent)
