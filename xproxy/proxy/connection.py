"""An accepted connection, and the ways a listener has to serve one."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Protocol

import attrs
import trio

from xproxy.connection.service import DownstreamStats, Port
from xproxy.proxy.silent import SilentDestinations
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.transport.stream import ByteStream


class Driver(Protocol):
    """What drives a connection once its protocol is known."""

    def run(self, first: bytes) -> Awaitable[None]: ...

    def drain(self) -> None: ...


@attrs.define(eq=False)
class Connection:
    """An accepted connection, from its first moment: what a drain, and later a takeover, must know."""

    id: int
    stream: ByteStream
    """The socket; once TLS is ended here, what is inside."""
    driver: Driver | None = None
    """None until the protocol is known."""
    _scope: trio.CancelScope | None = None
    # Round a step that comes before the protocol is known.
    _drain_by: float = math.inf

    def within(self, seconds: float) -> trio.CancelScope:
        """Return the scope for one step before the protocol is known, which may take so long (0: for ever)."""
        deadline = trio.current_time() + seconds if seconds else math.inf
        self._scope = trio.CancelScope(deadline=min(deadline, self._drain_by))
        return self._scope

    def drain(self, grace: float) -> None:
        """Finish what is in flight, then close. One that has not said yet what it wants has ``grace`` seconds to."""
        if self.driver is not None:
            self.driver.drain()
            return
        self._drain_by = min(self._drain_by, trio.current_time() + grace)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._drain_by)


class Ports:
    """A listener's ways to serve, and what it knows beyond its plan."""

    __slots__ = ("fallback", "main", "refusal", "silent", "silent_destinations")

    def __init__(self, plan: ListenerPlan, stats: DownstreamStats) -> None:
        name = plan.config.name
        self.main = Port(name, plan.service, stats)
        """By its routes."""
        self.fallback = Port(name, plan.service, stats)
        """What nobody recognised."""
        self.silent = Port(name, plan.service, stats)
        """Whose server speaks first."""
        self.refusal = Port(name, plan.service, stats)
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
        for port in (self.main, self.fallback, self.silent, self.refusal):
            port.draining = True
