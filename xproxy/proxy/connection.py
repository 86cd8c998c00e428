"""An accepted connection, and the ways a listener has to serve one."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, runtime_checkable

import attrs
import trio

from xproxy.codecs.api import CodecPlugin, supports
from xproxy.connection.service import DownstreamStats, FilterChain
from xproxy.connection.standing import Moment, Standing
from xproxy.model.address import Address
from xproxy.model.limits import Limits
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.silent import SilentDestinations
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.proxy.watched import Watched
from xproxy.stream.exchange import ConnectionFacts
from xproxy.stream.held import Share, uncounted
from xproxy.transport.stream import ByteStream


class Movable(Protocol):
    """What can be given to another process: a connection's driver, and before its protocol is known its opening."""

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen."""
        ...

    def freeze(self) -> Moment | OpeningMoment:
        """Stand still until ``thaw`` or ``leave``; return what another process needs. Raises ValueError, TlsError."""
        ...

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        ...

    def leave(self) -> None:
        """Another process goes on with it: end without a word to the peer."""
        ...


class Driver(Movable, Protocol):
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

    def freeze(self) -> Moment:
        """As Movable."""
        ...


@runtime_checkable
class SupportsSeek(Protocol):
    """A Movable that says when it can be frozen."""

    def seek(self, found: Callable[[], bool] | None) -> None:
        """Let ``found`` be called each time it can be frozen; None: nobody asks any more.

        ``found`` never blocks. True: it has frozen it, and it stands still until ``thaw`` or ``leave``.
        """
        ...


@attrs.frozen(eq=False)
class Terms:
    """What a connection was opened with, and goes by as long as it lives."""

    plugin: CodecPlugin | Watched
    limits: Limits
    """A peer was told some of them."""
    chain: FilterChain
    facts: ConnectionFacts


@attrs.define(eq=False)
class Connection:
    """An accepted connection, from its first moment: what a drain, and later a takeover, must know."""

    id: int
    stream: ByteStream
    """The socket; once TLS is ended here, what is inside."""
    destination: Address | None = None
    """Where it was going, where it was intercepted on its way; None: to us."""
    share: Share = attrs.field(factory=uncounted)
    """What it holds of the process's bytes."""
    driver: Driver | None = None
    """None until the protocol is known."""
    opening: Movable | None = None
    """What finds it out."""
    terms: Terms | None = None
    """Likewise."""
    opened_at: float = attrs.field(factory=trio.current_time)
    """Trio clock."""
    _scope: trio.CancelScope | None = None
    # Round a step that comes before the protocol is known.
    _drain_by: float = math.inf
    _leaving: bool = False
    # It was closed to make room, and its task is about to notice.
    _still: bool = False
    # Its protocol is not known, and no time passes for it.
    _grace: float = math.inf
    # Of a drain that came meanwhile.
    _found: Callable[[], bool] | None = None
    # Whoever would freeze it.

    def within(self, seconds: float, left: float = math.inf) -> trio.CancelScope:
        """Return the scope for one step before the protocol is known, which may take so long (0: for ever).

        ``left``: seconds, where less are left as it has begun elsewhere.
        """
        deadline = trio.current_time() + min(seconds or math.inf, left)
        self._scope = trio.CancelScope(deadline=min(deadline, self._drain_by))
        return self._scope

    # ---- moving to another process

    @property
    def movable(self) -> Movable | None:
        """What is asked whether it can be given away, and gives it; None: nothing, at the moment."""
        return self.driver or self.opening

    def seek(self, found: Callable[[], bool] | None) -> None:
        """Let ``found`` be called each time it can be frozen, whatever drives it by then. See SupportsSeek."""
        self._found = found
        movable: object = self.movable
        if supports(movable, SupportsSeek):
            movable.seek(found)

    def drive_by(self, driver: Driver) -> None:
        """Its protocol is known."""
        self.driver, self.opening = driver, None
        if self._found is not None:
            self.seek(self._found)

    @property
    def draining(self) -> bool:
        """Its protocol is not known, and it has little time left to say it."""
        return self._drain_by < math.inf or self._grace < math.inf

    @property
    def overdue(self) -> bool:
        """The time for its step is up, and its task is about to notice."""
        return self._scope is not None and self._scope.cancel_called

    def stand_still(self) -> float:
        """Let no time pass before its protocol is known, until ``go_on``; return the seconds left of its step."""
        self._still = True
        if self._scope is None:
            return math.inf
        left = self._scope.deadline - trio.current_time()
        self._scope.deadline = math.inf
        return left

    def go_on(self, left: float) -> None:
        """Let the time pass that was left."""
        self._still = False
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + left
        grace, self._grace = self._grace, math.inf
        if grace < math.inf:
            self.drain(grace)

    # ---- the end

    @property
    def idle_since(self) -> float | None:
        """Since when it wants nothing, or has not said what it wants (trio clock); None: it is being served."""
        if self._leaving or self._still:
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
        if not self._still:  # else it may be another process's by now
            self.stream.abort()

    def drain(self, grace: float) -> None:
        """Finish what is in flight, then close. One that has not said yet what it wants has ``grace`` seconds to."""
        if self.driver is not None:
            self.driver.drain()
            return
        if self._still:
            self._grace = min(self._grace, grace)
            return
        self._drain_by = min(self._drain_by, trio.current_time() + grace)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._drain_by)


_CHAINS: Final = ("main", "fallback", "silent", "refusal")


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

    def name_of(self, chain: FilterChain) -> str:
        """Return what ``by_name`` finds ``chain`` by. Raises ValueError if it is none of these."""
        for name in _CHAINS:
            if getattr(self, name) is chain:
                return name
        raise ValueError("it is served by no chain of its listener")

    def by_name(self, name: str) -> FilterChain | None:
        """Return the chain of this name; None: there is none."""
        return getattr(self, name) if name in _CHAINS else None

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
