"""The bytes of a connection before its protocol is known: read within bounds in time, counted, and written down.

Whoever waits for them has decided nothing, so that is where the connection can stand still: what was read and what is
left of its times are all that another process needs (``OpeningMoment``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from xproxy.connection.standing import Standing
from xproxy.proxy.connection import Connection
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.stream.held import COUNTED
from xproxy.transport.stream import Moved, is_movable
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.stream import resume


@attrs.define(eq=False)
class OpeningReader:
    """Reads for ``Opening``, which makes sense of it."""

    connection: Connection
    _prefix: bytes = attrs.field(default=b"", init=False)
    """Read, and not yet made sense of."""
    _claim: bytes = attrs.field(default=b"", init=False)
    """The PROXY header as it came."""
    _claims: bool = attrs.field(default=False, init=False)
    """One is expected."""
    _ended: bool = attrs.field(default=False, init=False)
    """No more will come."""
    _since: float = attrs.field(default=0.0, init=False)
    """When the first byte of what is being detected came."""
    _over: bool = attrs.field(default=False, init=False)
    """All that is left is to tell the client, or not even that."""
    _counted: int = attrs.field(default=0, init=False)
    # Of the prefix, as the connection's share.
    _patience: trio.CancelScope | None = attrs.field(default=None, init=False)
    # Round a wait for who may be silent.
    _left: float = attrs.field(default=math.inf, init=False)
    # Seconds, of a step that has begun elsewhere.
    _patience_left: float = attrs.field(default=math.inf, init=False)
    # Likewise.
    _waiting: bool = attrs.field(default=False, init=False)
    # For bytes of which nothing is decided.
    _still: bool = attrs.field(default=False, init=False)
    _lefts: tuple[float, float] = attrs.field(default=(math.inf, math.inf), init=False)
    # Of one that stands still: seconds of its step, and of its patience.
    _found: Callable[[], bool] | None = attrs.field(default=None, init=False)
    # Whoever would freeze it.
    _thawed: trio.Event | None = attrs.field(default=None, init=False)
    # Set when it need no longer stand still in its own task.

    async def _read(self) -> bool:
        """Read once; False: nothing more will come. Raises like ``ByteStream.read``."""
        if self._found is not None:
            await self._sought(self._found)
        self._waiting = True
        try:
            data = await self.connection.stream.read()
        finally:
            self._waiting = False
        if not self._prefix:
            self._since = trio.current_time()
        self._prefix += data
        if self._counted or len(self._prefix) >= COUNTED:
            self._count(len(self._prefix))
        self._ended = not data
        self._patience_left = math.inf
        return not self._ended

    async def _read_within(self, seconds: float) -> bool:
        """Read; return False where nothing came in so many seconds."""
        seconds = max(min(seconds, self._patience_left), 0.0)
        with trio.move_on_after(seconds) as self._patience:
            await self._read()
        patience, self._patience = self._patience, None
        return not patience.cancelled_caught

    def _step(self, seconds: float) -> trio.CancelScope:
        """Return the scope of one step, of which some time may have passed elsewhere; 0: as long as it likes."""
        left, self._left = self._left, math.inf
        return self.connection.within(seconds, left)

    def _count(self, count: int) -> None:
        """Count so many bytes as held for the connection."""
        self.connection.share.change_unfinished(self._counted, count)
        self._counted = count

    # ---- moving to another process

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen: while it waits for bytes of which nothing is decided."""
        connection = self.connection
        if self._over or connection.draining:
            return Standing.NEVER
        if self._still or connection.overdue:
            return Standing.NOT_NOW
        if self._thawed is not None:
            return Standing.IDLE  # it asks whoever seeks it
        if self._waiting:
            stream = connection.stream
            return Standing.IDLE if is_movable(stream) and stream.awaited else Standing.NOT_NOW
        return Standing.BUSY  # amid a handshake, or a step that ends at once

    def seek(self, found: Callable[[], bool] | None) -> None:
        """See SupportsSeek: ``found`` is called each time before it waits."""
        self._found = found

    def freeze(self) -> OpeningMoment:
        """Stand still: nothing is read or timed until ``thaw`` or ``leave``. Call it on one that is idle.

        Raises ValueError if its stream cannot be given away, TlsError if its TLS session cannot; then it goes on.
        """
        stream = self.connection.stream
        if not is_movable(stream):
            raise ValueError("its stream cannot be given to another process")
        sock = stream.suspend()
        try:
            state = stream.export()
        except BaseException:
            stream.resume()
            raise
        now = trio.current_time()
        patience = self._patience.deadline - now if self._patience is not None else math.inf
        if self._patience is not None:
            self._patience.deadline = math.inf
        self._lefts = self.connection.stand_still(), patience
        self._still = True
        return OpeningMoment(
            prefix=self._prefix,
            header=self._claim,
            claims=self._claims,
            stream=state,
            left=self._lefts[0],
            patience=patience,
            waited=now - self._since if self._prefix else 0.0,
            sock=sock,
        )

    def thaw(self) -> None:
        """Go on as if nothing had been, with the time that was left."""
        self._still = False
        left, patience = self._lefts
        self.connection.go_on(left)
        if self._patience is not None:
            self._patience.deadline = trio.current_time() + patience
        if self._thawed is not None:
            self._thawed.set()
        stream = self.connection.stream
        assert is_movable(stream)  # it was frozen
        stream.resume()

    def leave(self) -> None:
        """Another process goes on with it: ``run`` returns, and the client notices nothing."""
        self._over = True
        stream = self.connection.stream
        assert is_movable(stream)  # it was frozen
        stream.leave()
        if self._thawed is not None:
            self._thawed.set()

    async def _sought(self, found: Callable[[], bool]) -> None:
        """Let whoever would freeze it do so, and stand still for as long as it is frozen. Raises Moved."""
        if self.connection.overdue or self.connection.draining:
            return
        self._thawed = trio.Event()
        try:
            if found() and self._still:
                await self._thawed.wait()
        finally:
            self._thawed = None
        if self._over:
            raise Moved("another process has the connection")

    def _restore(self, moment: OpeningMoment) -> TlsFacts | None:
        """Go on from ``moment``; return what TLS established, if it is ended already."""
        self._left, self._patience_left = moment.left, moment.patience
        self._claim = moment.header
        if moment.prefix:
            self._prefix = moment.prefix
            self._since = trio.current_time() - moment.waited
            if len(self._prefix) >= COUNTED:
                self._count(len(self._prefix))
        if not moment.stream:
            return None
        stream = resume(self.connection.stream, moment.stream)
        self.connection.stream = stream
        return stream.facts
