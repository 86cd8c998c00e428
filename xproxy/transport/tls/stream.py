"""A TLS session as a ByteStream over another ByteStream.

Rules:

* One read below gives whole records to the cipher and returns all that they hold; only a part of a record stays here,
  as ciphertext. So nothing decrypted waits out of sight, and a session can be moved between any two reads.
* ``write_now`` says that it took everything only when the stream below took every byte of ciphertext. Otherwise it
  keeps back the last byte of what it has encrypted, and the caller must offer that byte and what follows it again, as
  with OpenSSL's SSL_write. So a caller whose write was whole may close at once, as with a plain socket.
* The peer's end is its close_notify. An end without one is an error, because anybody on the way can make it: what was
  read may be cut short (RFC 8446 §6.1; curl and OpenSSL 3 do the same, Envoy and browsers forgive it).
"""

from __future__ import annotations

import socket
from typing import Final

import trio

from xproxy.model.address import Address
from xproxy.transport.stream import ByteStream, MovableStream, is_movable
from xproxy.transport.tls.aead import AeadCipher
from xproxy.transport.tls.alerts import TlsError
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.keys import suite_of
from xproxy.transport.tls.records import whole
from xproxy.transport.tls.session import Cipher
from xproxy.transport.tls.state import StreamState, dump, load

MAX_BACKLOG_BYTES: Final = 64 * 1024
"""Plaintext that is encrypted before the stream below has taken its ciphertext."""


class Truncated(trio.BrokenResourceError):
    """The peer's bytes ended without close_notify: they may have been cut short by anybody."""


class TlsStream:
    """See the module. Made by ``accept``, ``connect`` and ``resume``."""

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_backlog",
        "_blocked",
        "_cipher",
        "_closed",
        "_early",
        "_failure",
        "_fin_due",
        "_finished",
        "_held",
        "_reading",
        "_rest",
        "_suspended",
        "_under",
        "facts",
        "local",
        "peer",
    )

    def __init__(
        self, under: ByteStream, cipher: Cipher, facts: TlsFacts, unread: bytes = b""
    ) -> None:
        self.facts = facts
        self.peer: Address = under.peer
        self.local: Address = under.local
        self._under = under
        self._cipher = cipher
        self._rest = unread  # ciphertext: a part of a record, after a handshake also whole ones
        self._ahead = b""  # plaintext not yet read
        self._early = len(unread) > 0  # read has something to look at before the stream below
        self._failure: Exception | None = None  # what read will say for ever
        self._backlog = b""  # ciphertext that the stream below has not taken
        self._held = -1  # the byte that is encrypted, but not acknowledged; -1: none
        self._blocked = False  # write_now cannot simply encrypt and write
        self._reading = False  # somebody waits in read
        self._finished = False  # close_notify was said
        self._suspended = False
        self._fin_due = False
        self._closed = False

    @property
    def hung_up(self) -> bool:
        """See ByteStream: the end of the connection below, or the peer's close_notify once it has been read."""
        return self._under.hung_up or self._cipher.ended

    @property
    def half_close(self) -> bool:
        """See ByteStream."""
        return self._under.half_close

    @half_close.setter
    def half_close(self, value: bool) -> None:
        self._under.half_close = value

    @property
    def pending(self) -> bool:
        """See ByteStream. Looks: a ticket that waits below is not what an idle connection's owner asks about."""
        if self._early:
            return True
        return self._under.pending and (self._reading or self._look())

    def _look(self) -> bool:
        while True:
            try:
                data = self._under.read_now()
                if data is None:
                    return False
                data = self._take(data)
            except trio.BrokenResourceError as exc:
                self._fail(exc)
                return True
            self._ahead = data
            if data or self._early:
                self._early = True
                return True

    def read_now(self) -> bytes | None:
        """See ByteStream."""
        return self._what_is_here() if self._early or self.pending else None

    async def read(self) -> bytes:
        """See ByteStream. Raises Truncated at an end without close_notify, BrokenResourceError at a false record."""
        while True:
            if self._early:
                if self._suspended:
                    await self._under.turn()  # it goes on where ``export`` has said it does
                    continue
                if (data := self._what_is_here()) is not None:
                    return data
            self._reading = True
            try:
                data = await (self._read_and_flush() if self._fin_due else self._under.read())
            finally:
                self._reading = False
            data = self._take(data)
            if data:
                return data
            self._under.settle()

    def settle(self, more: float = 0.0) -> None:
        """See ByteStream: deciphering included."""
        self._under.settle(more)

    async def turn(self) -> None:
        """See ByteStream."""
        await self._under.turn()

    async def pause(self, seconds: float) -> None:
        """See ByteStream."""
        await self._under.pause(seconds)

    async def _read_and_flush(self) -> bytes:
        # Our farewell did not fit; nobody writes any more, so whoever reads sees to it.
        data = b""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush_all)
            try:
                data = await self._under.read()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it knows this frame
        return data

    async def _flush_all(self) -> None:
        try:
            while self._backlog:
                await self.wait_writable()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # read says so

    def _take(self, data: bytes) -> bytes:
        # What was read below; empty: nothing for the reader (yet).
        if not data:
            raise self._fail(Truncated("read: the connection ended without close_notify"))
        return self._open(self._rest + data if self._rest else data)

    def _what_is_here(self) -> bytes | None:
        # None: nothing, ask the stream below.
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if self._ahead:
            data, self._ahead = self._ahead, b""
            self._early = self._failure is not None or self._cipher.ended
            return data
        if self._failure is not None:
            raise self._failure
        if self._cipher.ended:
            return b""
        self._early = False
        return self._open(self._rest) or None

    def _open(self, data: bytes) -> bytes:
        # ``data`` begins with a record. Empty: nothing for the reader (yet).
        end = len(data)
        if end < 5 or 5 + (data[3] << 8 | data[4]) != end:
            end = whole(data)
            self._rest = data[end:]
            if not end:
                return b""
            data = data[:end]
        elif self._rest:
            self._rest = b""
        cipher = self._cipher
        try:
            plain = cipher.decrypt(data)
        except TlsError as exc:
            return self._broken(exc)
        if cipher.ended:
            self._early = True
            self._rest = b""
        if not plain:
            try:
                self._send_owed()
            except trio.BrokenResourceError:
                if not self._under.hung_up:
                    raise
                self._backlog = (
                    b""  # the peer takes nothing more; what it has said is still to be read
                )
        return plain

    def _broken(self, error: TlsError) -> bytes:
        try:
            self._send_owed()
        except trio.BrokenResourceError:
            pass
        failure = self._fail(trio.BrokenResourceError(f"read: {error.detail}"))
        failure.__cause__ = error
        if not error.before:
            try:
                raise failure
            finally:
                del failure  # it knows this frame
        return error.before

    def _fail(self, failure: Exception) -> Exception:
        self._failure = failure
        self._early = True
        self._rest = b""
        return failure

    def _send_owed(self) -> None:
        owed = self._cipher.owed()
        if not owed or self._closed:
            return
        if len(self._backlog) > 2 * MAX_BACKLOG_BYTES:
            raise trio.BrokenResourceError("read: the peer asks for answers and takes none")
        self._backlog += owed
        self._blocked = True
        self._flush()

    def write_now(self, data: bytes | memoryview) -> int:
        """See ByteStream, and the module: what was not taken must be offered again."""
        if self._blocked:
            return self._write_after_backlog(data)
        size = len(data)
        if size > MAX_BACKLOG_BYTES:
            return self._write_pieces(data)
        if not size:
            return 0
        try:
            sealed = self._cipher.encrypt(data)
        except TlsError as exc:
            raise trio.BrokenResourceError(f"write: {exc.detail}") from exc
        sent = self._under.write_now(sealed)
        if sent == len(sealed):
            return size
        self._backlog = sealed[sent:]
        self._held = data[size - 1]
        self._blocked = True
        return size - 1

    def _write_pieces(self, data: bytes | memoryview) -> int:
        done = 0
        with memoryview(data) as view:
            while done < len(view):
                piece = view[done : done + MAX_BACKLOG_BYTES]
                taken = self.write_now(piece)
                done += taken
                if taken < len(piece):
                    break
        return done

    def _write_after_backlog(self, data: bytes | memoryview) -> int:
        if self._closed or self._suspended:
            raise trio.ClosedResourceError("stream was closed")
        if self._finished:
            raise trio.BrokenResourceError("write: nothing may follow shutdown_write")
        if not self._flush() or not data:
            return 0
        if self._held < 0:
            return self.write_now(data)
        if data[0] != self._held:
            raise RuntimeError("what write_now did not take was not offered again")
        self._held = -1
        self._blocked = False
        return 1 + (self.write_now(data[1:]) if len(data) > 1 else 0)

    def _flush(self) -> bool:
        # Whether the backlog is gone.
        if self._backlog:
            sent = self._under.write_now(self._backlog)
            self._backlog = self._backlog[sent:]
            if self._backlog:
                return False
        self._blocked = self._held >= 0 or self._finished
        if self._fin_due:
            self._fin_due = False
            self._under.shutdown_write()
        return True

    async def wait_writable(self) -> None:
        """See ByteStream. Ends once the peer has taken anything, so that a slow one is told from a dead one."""
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if self._suspended:
            await self._under.turn()
        elif not self._flush():
            await self._under.wait_writable()
            self._flush()

    def watch(self, scope: trio.CancelScope | None) -> None:
        """See ByteStream. A close_notify with no end of the connection behind it is noticed by whoever reads only."""
        self._under.watch(scope)
        if scope is not None and self._cipher.ended and not self._under.half_close:
            scope.cancel()

    def shutdown_write(self) -> None:
        """See ByteStream: close_notify, and then the end of the connection in this direction."""
        if self._closed or self._finished:
            return
        self._finished = self._fin_due = self._blocked = True
        self._backlog += self._cipher.farewell()
        try:
            self._flush()
        except trio.BrokenResourceError:
            self._backlog = b""  # there is nobody left to tell; read says so

    def close(self) -> None:
        """See ByteStream. Says close_notify, if what was written before has gone."""
        if self._closed:
            return
        self._closed = self._blocked = self._early = True
        try:
            if not self._finished and self._held < 0 and self._failure is None:
                self._backlog += self._cipher.farewell()
            if self._backlog:
                self._under.write_now(self._backlog)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._backlog = b""
        self._failure = None  # its traceback leads back here
        self._under.close()

    def abort(self) -> None:
        """See ByteStream: no close_notify, so that the peer can tell."""
        self._closed = self._blocked = self._early = True
        self._backlog = b""
        self._failure = None
        self._under.abort()

    @property
    def awaited(self) -> bool:
        """See MovableStream."""
        under = self._under
        return is_movable(under) and under.awaited

    @property
    def amid(self) -> bool:
        """See MovableStream: our farewell goes out beside a read, which may be over."""
        return self._fin_due and self._reading and not self.awaited

    def suspend(self) -> socket.socket:
        """See MovableStream. What moves is the socket, and beside it what ``export`` returns."""
        sock = self._movable().suspend()
        self._suspended = self._blocked = (
            True  # nothing is sealed meanwhile: its number would be lost
        )
        return sock

    def resume(self) -> None:
        """See MovableStream."""
        if self._suspended:
            self._suspended = False
            self._blocked = bool(self._backlog) or self._held >= 0 or self._finished
        self._movable().resume()

    def beside(self, sock: socket.socket) -> ByteStream:
        """See MovableStream."""
        return self._movable().beside(sock)

    def leave(self) -> None:
        """See MovableStream: no close_notify, as the session goes on elsewhere."""
        self._movable().leave()
        self._closed = self._blocked = self._early = True
        self._backlog = b""
        self._failure = None

    def _movable(self) -> MovableStream:
        under = self._under
        if not is_movable(under):
            raise ValueError(f"a {type(under).__name__} cannot be moved")
        return under

    def export(self) -> bytes:
        """Return all that ``resume`` needs, beside the socket. What is owed counts as unsent from here on.

        Raises TlsError where the session cannot be moved: by its cipher suite, or as its keys are not kept. Not to
        be called while somebody reads or writes; afterwards one of the two goes on, never both.
        """
        if self._closed or self._failure is not None:
            raise TlsError("the session cannot be moved: it has ended")
        owed = self._cipher.owed()
        if owed:  # it is sealed: without it the peer would miss a record
            self._backlog += owed
            self._blocked = True
        # Behind that: a cipher may count its records only as they are taken.
        session = self._cipher.export()
        return dump(
            StreamState(
                session=session,
                facts=self.facts,
                rest=self._rest,
                ahead=self._ahead,
                backlog=self._backlog,
                held=self._held,
                ended=self._cipher.ended,
                finished=self._finished,
            )
        )

    def _restore(self, state: StreamState) -> None:
        self._ahead = state.ahead
        self._early = bool(state.ahead or state.rest) or state.ended
        self._backlog = state.backlog
        self._held = state.held
        self._finished = self._fin_due = state.finished
        self._blocked = bool(state.backlog) or state.held >= 0 or state.finished
        self._cipher.ended = state.ended


def resume(under: ByteStream, state: bytes) -> TlsStream:
    """Go on with the session that ``export`` wrote down. Raises ValueError for anything else."""
    found = load(state)
    stream = TlsStream(under, _cipher(found), found.facts, found.rest)
    stream._restore(found)
    return stream


def check(state: bytes) -> TlsFacts:
    """Return the facts of the session that ``resume`` would go on with. Raises ValueError as it would."""
    found = load(state)
    _cipher(found)
    return found.facts


def _cipher(state: StreamState) -> AeadCipher:
    suite = suite_of(state.facts.version, state.facts.cipher)
    assert suite is not None  # load saw to it
    return AeadCipher(suite, state.session, said_goodbye=state.finished)
