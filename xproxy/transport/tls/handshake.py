"""A handshake, one record at a time, so that afterwards the records of the session can be counted from its first."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from xproxy.transport.stream import ByteStream, write_all
from xproxy.transport.tls.alerts import Alert, TlsError, failure_of
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.keys import TLS13, Suite, key_block, read_key_log, suite_of
from xproxy.transport.tls.openssl import OpenSslCipher
from xproxy.transport.tls.protection import DirectionState
from xproxy.transport.tls.records import CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER_BYTES, whole
from xproxy.transport.tls.session import Keys, Session

_SERVER_HELLO: Final = b"\2"
_RANDOM_AT: Final = HEADER_BYTES + 4 + 2
_MAX_FLIGHT_BYTES: Final = 256 * 1024
"""What a peer may send until the handshake is done: certificate chains are the largest part."""


class _Direction:
    """What must be remembered of a direction's records, TLS 1.2: encryption begins after ChangeCipherSpec."""

    def __init__(self) -> None:
        self.encrypted = -1
        """Records since ChangeCipherSpec; -1: none was seen."""
        self.explicit = 0
        """The explicit nonce of the first of them (AES-GCM)."""
        self.random = b""
        """The ServerHello's random, if this is the server's direction."""

    def note(self, records: bytes) -> int:
        """Look at whole records, or one that is none and will be refused; return how many there are."""
        at = count = 0
        while at + HEADER_BYTES <= len(records):
            kind = records[at]
            length = records[at + 3] << 8 | records[at + 4]
            body = at + HEADER_BYTES
            if kind == CHANGE_CIPHER_SPEC:
                self.encrypted = 0
            elif self.encrypted >= 0:
                if self.encrypted == 0:
                    self.explicit = int.from_bytes(records[body : body + 8], "big")
                self.encrypted += 1
            elif kind == HANDSHAKE and records[body : body + 1] == _SERVER_HELLO:
                self.random = records[at + _RANDOM_AT : at + _RANDOM_AT + 32]
            at = body + length
            count += 1
        return count


class Handshake:
    """One handshake's state. ``run`` does all of it."""

    def __init__(
        self,
        context: ssl.SSLContext,
        key_log: KeyLog | None,
        *,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
        server: bool,
        before: Callable[[], None] | None = None,
    ) -> None:
        """``before``: called right before each step of OpenSSL's, in one go with it."""
        self._before = before
        self._into = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        try:
            self.object = context.wrap_bio(
                self._into,
                self._out,
                server_side=server,
                server_hostname=server_name,
                session=session,
            )
        except (ValueError, TypeError) as exc:
            raise TlsError(f"server name: {exc}") from exc
        self._key_log = key_log
        self._server = server
        self._secrets: dict[str, tuple[bytes, bytes]] = {}
        self._read = _Direction()
        self._written = _Direction()
        self._last_flight = 0  # records written by the last step

    async def run(self, stream: ByteStream, first: bytes, gate: HandshakeGate) -> bytes:
        """Shake hands; return the ciphertext read beyond the handshake. Raises TlsError, and what ``stream`` raises.

        When it fails, the alert has been written. The deadline is the caller's.
        """
        data = first
        total = 0
        done = self._server is False and await self._step(stream, b"", gate)
        while not done:
            end = whole(data)
            if end:
                at = HEADER_BYTES + (data[3] << 8 | data[4])
                record, data = data[: min(at, end)], data[min(at, end) :]
                done = await self._step(stream, record, gate)
                continue
            more = await stream.read()
            if not more:
                raise TlsError("the peer ended the connection within the handshake")
            total += len(more)
            if total > _MAX_FLIGHT_BYTES:
                raise TlsError("the handshake is too long", Alert.ILLEGAL_PARAMETER)
            data += more
        return data

    async def _step(self, stream: ByteStream, record: bytes, gate: HandshakeGate) -> bool:
        await gate.turn()
        begin = time.perf_counter()
        done, flight, failure = self._compute(record)
        gate.spend(time.perf_counter() - begin)
        if flight:
            await write_all(stream, flight)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it knows this frame
        return done

    def _compute(self, record: bytes) -> tuple[bool, bytes, TlsError | None]:
        failure = None
        done = False
        if record:
            self._into.write(record)
            self._read.note(record)
        if self._before is not None:
            self._before()
        try:
            self.object.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            failure = exc
        flight = self._out.read()
        if self._key_log is not None and (text := self._key_log.take()):
            self._secrets.update(read_key_log(text))
        if failure is not None:
            return False, flight, failure_of(failure, sent=flight, received=record)
        self._last_flight = self._written.note(flight)
        return done, flight, None

    def cipher(self, keep: Callable[[ssl.SSLSession], None] | None = None) -> OpenSslCipher:
        """Return the session's record protection, once ``run`` is done. ``keep`` gets what a ticket can resume."""
        return OpenSslCipher(self.object, self._into, self._out, self._session(), keep)

    def _session(self) -> Session:
        version = self.object.version() or ""
        chosen = self.object.cipher()
        suite = suite_of(version, chosen[0] if chosen else "")
        if suite is None:
            return Session(version, None, None, "its cipher suite is not one of those that can")
        if self._key_log is None:
            return Session(version, suite, None, "its keys are not kept")
        keys = self._keys13() if version == TLS13 else self._keys12(suite)
        return Session(version, suite, keys, "" if keys else "its keys are not known")

    def _keys13(self) -> Keys | None:
        client = self._secrets.get("CLIENT_TRAFFIC_SECRET_0")
        server = self._secrets.get("SERVER_TRAFFIC_SECRET_0")
        if client is None or server is None:
            return None
        # A server writes its Finished before it can read the client's: what its last step wrote are tickets.
        written = self._last_flight if self._server else 0
        read, write = (client, server) if self._server else (server, client)
        return Keys(0, written, partial(_directions13, read[1], write[1], written))

    def _keys12(self, suite: Suite) -> Keys | None:
        found = self._secrets.get("CLIENT_RANDOM")
        read, written = self._read, self._written
        server_random = (written if self._server else read).random
        if found is None or not server_random or min(read.encrypted, written.encrypted) < 0:
            return None
        randoms = found[0], server_random
        derive = partial(
            _directions12,
            suite,
            found[1],
            randoms,
            self._server,
            (read.encrypted, written.encrypted, written.explicit + written.encrypted),
        )
        return Keys(read.encrypted, written.encrypted, derive)


def _directions13(read: bytes, write: bytes, written: int) -> tuple[DirectionState, DirectionState]:
    return DirectionState(read, b"", 0), DirectionState(write, b"", written)


def _directions12(
    suite: Suite,
    master: bytes,
    randoms: tuple[bytes, bytes],
    server: bool,
    counts: tuple[int, int, int],
) -> tuple[DirectionState, DirectionState]:
    client_writes, server_writes = key_block(master, *randoms, suite)
    ours, theirs = (server_writes, client_writes) if server else (client_writes, server_writes)
    read, written, explicit = counts
    return (
        DirectionState(*theirs, read),
        DirectionState(*ours, written, explicit & 0xFFFFFFFFFFFFFFFF),
    )
