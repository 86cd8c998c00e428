"""An accepted connection, and the ways a listener has to serve one."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Protocol

import attrs
import trio

from xproxy.connection.service import DownstreamStats, FilterChain
from xproxy.connection.standing import Moment, Standing
from xproxy.proxy.silent import SilentDestinations
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.stream.held import Share, uncounted
from xproxy.transport.stream import ByteStream


class Driver(Protocol):
    """What drives a connection once its protocol is known."""

    @property
    def idle_since(self) -> float | None:
        """Since when nothing has been asked for (trio clock); None: a stream is in flight."""
        ...

    def run(self, first: bytes) -> Awaitable[None]: ...

    def drain(self) -> None: ...

    def shed(self) -> None:
        """Close at once, as there is no room for idle connections. Call it on one that is idle. Never blocks."""
        ...

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen."""
        ...

    def freeze(self) -> Moment:
        """Stand still until ``thaw`` or ``leave``; return what another process needs. Raises ValueError, TlsError."""
        ...

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        ...

    def leave(self) -> None:
        """Another process goes on with it: end without a word to the peer."""
        ...


@attrs.define(eq=False)
class Connection:
    """An accepted connection, from its first moment: what a drain, and later a takeover, must know."""

    id: int
    stream: ByteStream
    """The socket; once TLS is ended here, what is inside."""
    share: Share = attrs.field(factory=uncounted)
    """What it holds of the process's bytes."""
    driver: Driver | None = None
    """None until the protocol is known."""
    opened_at: float = attrs.field(factory=trio.current_time)
    """Trio clock."""
    _scope: trio.CancelScope | None = None
    # Round a step that comes before the protocol is known.
    _drain_by: float = math.inf
    _leaving: bool = False
    # It was closed to make room, and its task is about to notice.

    def within(self, seconds: float) -> trio.CancelScope:
        """Return the scope for one step before the protocol is known, which may take so long (0: for ever)."""
        deadline = trio.current_time() + seconds if seconds else math.inf
        self._scope = trio.CancelScope(deadline=min(deadline, self._drain_by))
        return self._scope

    @property
    def idle_since(self) -> float | None:
        """Since when it wants nothing, or has not said what it wants (trio clock); None: it is being served."""
        if self._leaving:
            return None
        return self.opened_at if self.driver is None else self.driver.idle_since

    def shed(self) -> None:
        """Close it at once: it is idle, and there is no room. Never blocks."""
        self._leaving = True
        if self.driver is not None:
            self.driver.shed()
        else:
            self.stream.close()

    def relieve(self) -> None:
        """See Holder: before its protocol is known. Nothing can be said to it then."""
        self.stream.abort()

    def drain(self, grace: float) -> None:
        """Finish what is in flight, then close. One that has not said yet what it wants has ``grace`` seconds to."""
        if self.driver is not None:
            self.driver.drain()
            return
        self._drain_by = min(self._drain_by, trio.current_time() + grace)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._drain_by)


class FilterChains:
    """A listener's ways to serve, and what it knows beyond its plan."""

    __slots__ = ("fallback", "main", "refusal", "silent", "silent_destinations")

    def __init__(self, plan: ListenerPlan, stats: DownstreamStats) -> None:
        name = plan.config.name
        self.main = FilterChain(name, plan.service, stats)
        """By its routes."""
        self.fallback = FilterChain(name, plan.service, stats)
        """What nobody recognised."""
        self.silent = FilterChain(name, plan.service, stats)
        """Whose server speaks first."""
        self.refusal = FilterChain(name, plan.service, stats)
        """Plaintext where only TLS is wanted: one answer, and the end."""
        self.silent_destinations = SilentDestinations()
        self.use(plan)

    def use(self, plan: ListenerPlan) -> None:
        """Serve new streams by ``plan``."""
        self.main.service = plan.service
        self.fallback.service = plan.fallback or plan.service
        self.silent.service = plan.silent or plan.service
        self.refusal.service = plan.refusal or plan.service

    def drain(self) -> None:
        """Every stream from now on is its connection's last."""
        for chain in (self.main, self.fallback, self.silent, self.refusal):
            chain.draining = True
