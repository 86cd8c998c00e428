"""What can be offered: a connection of a client, or one to an endpoint, from standing still to gone or back."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from typing import Protocol

import attrs

from xproxy.connection.bindings import Bindings
from xproxy.connection.shared.moving import Moving
from xproxy.connection.standing import Standing
from xproxy.migration.messages import TLS
from xproxy.migration.packing import Downstream, Undetected, Upstream, pack
from xproxy.proxy.active_listener import ActiveListener
from xproxy.proxy.adopting import Codecs, accepted, describe
from xproxy.proxy.connection import Connection
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.stream.exchange import Closable
from xproxy.transport.tls.alerts import TlsError
from xproxy.upstream.cluster import Cluster
from xproxy.upstream.moving import Given, SupportsGive, settings_of


class Movable(Protocol):
    """A connection that may go."""

    @property
    def name(self) -> str:
        """What it is counted as."""
        ...

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states that are written of it: of its codec, and ``tls`` within which that is."""
        ...

    def freeze(self) -> tuple[bytes, list[socket.socket]]:
        """Let it stand still; return what is written of it, and the sockets that go along.

        Raises ValueError where it cannot be written down, OSError where there is no room for a link to its streams
        now: then it goes on as if nothing had been.
        """
        ...

    def thaw(self) -> None:
        """Let it go on."""
        ...

    def leave(self) -> None:
        """Another process has it."""
        ...

    def keep(self) -> None:
        """It goes on, and is never asked again: let it end here as gently as its protocol can."""
        ...


def name_of(connection: Connection) -> str:
    """Return what a client's connection is counted as."""
    terms = connection.terms
    return terms.plugin.name if terms is not None else "opening"


@attrs.define(eq=False)
class MovableDownstream:
    """A client's."""

    active: ActiveListener
    connection: Connection
    codecs: Codecs
    clusters: Mapping[str, Cluster] = attrs.field(factory=dict)
    """Whose connections may be bound to it."""
    waits: str = ""
    """Why it has not moved."""
    out: bool = False
    """It was offered, and not answered for."""
    seeking: bool = False
    """Its driver tells when it can be frozen."""
    ends: tuple[str, ...] = ()
    """What the connections to endpoints that were frozen with it are counted as."""
    idle_by: float = 0.0
    """With streams in flight that would be relayed: until when it is waited for to be idle (trio clock)."""
    not_before: float = 0.0
    """It is not offered before that (trio clock): the other side could not take it a moment ago."""
    look_at: float = math.inf
    """When it is looked at again (trio clock); infinite: there is no such time. Set by ``Waiting``, as is …"""
    ready: bool = False
    """… that it is among those to be looked at now."""
    _given: list[Given] = attrs.field(factory=list)
    # What is bound to it, and stands still with it.

    @property
    def name(self) -> str:
        """See Movable."""
        return name_of(self.connection)

    @property
    def states(self) -> tuple[str, ...]:
        """See Movable."""
        terms = self.connection.terms
        if terms is None:
            return ()
        name = terms.plugin.name
        return (name, TLS) if terms.facts.tls else (name,)

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.active.connections.get(self.connection.id) is not self.connection

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen."""
        movable = self.connection.movable
        standing = movable.standing if movable is not None else Standing.NOT_NOW
        if standing is Standing.IDLE and not all(
            isinstance(bound, SupportsGive) and bound.quiet for _, bound in self._bound()
        ):
            return Standing.BUSY  # the other end of what is its own is not
        return standing

    @property
    def relaying(self) -> int:
        """Streams that are served here though another process has the connection."""
        return relaying(self.connection)

    def _bound(self) -> list[tuple[object, Closable]]:
        driver = self.connection.driver
        return driver.all_bound() if isinstance(driver, Bindings) else []

    def freeze(self) -> tuple[bytes, list[socket.socket]]:
        """See Movable."""
        driver = self.connection.driver
        if driver is None:
            return self._freeze_opening()
        flows = driver.standing is Standing.FLOWING  # what is bound to it by its exchange goes, too
        described = describe(self.connection, self.active, self.codecs)
        try:
            moment = driver.freeze()
        except TlsError as exc:
            raise ValueError(exc.detail) from exc
        try:
            bound = () if flows else self._freeze_bound()
            protocols = [end.handed.protocol for end in bound]
            if moment.exchange is not None:
                protocols.append(moment.exchange.upstream.protocol)
            self.ends = tuple(f"upstream {protocol}" for protocol in protocols)
            return pack(Downstream(described=described, moment=moment, bound=bound))
        except BaseException:
            self._stay()
            driver.thaw()
            raise

    def _freeze_bound(self) -> tuple[Upstream, ...]:
        found: list[Upstream] = []
        for key, bound in self._bound():
            # By its name and number: after a reload another cluster may have the name.
            cluster = self.clusters.get(key[0]) if isinstance(key, tuple) else None
            lane = cluster.lane_of(key) if cluster is not None else None
            if cluster is None or lane is None or not isinstance(bound, SupportsGive):
                raise ValueError("an upstream connection that cannot go along is bound to it")
            try:
                given = bound.give()
            except TlsError as exc:
                raise ValueError(exc.detail) from exc
            self._given.append(given)
            handed = attrs.evolve(given.handed, lane=lane[0], client=lane[1])
            found.append(
                Upstream(
                    cluster=cluster.name,
                    address=given.endpoint.address,
                    settings=settings_of(cluster.config),
                    handed=handed,
                )
            )
        return tuple(found)

    def _stay(self) -> None:
        while self._given:
            self._given.pop().stay()

    def _freeze_opening(self) -> tuple[bytes, list[socket.socket]]:
        opening = self.connection.opening
        if opening is None:
            raise ValueError("it is ending")
        try:
            moment = opening.freeze()
        except TlsError as exc:
            raise ValueError(exc.detail) from exc
        try:
            assert isinstance(moment, OpeningMoment)
            found = accepted(self.connection, self.active)
            return pack(Undetected(accepted=found, opening=moment))
        except BaseException:
            opening.thaw()
            raise

    def thaw(self) -> None:
        """See Movable."""
        self._stay()
        if self.connection.movable is not None:
            self.connection.movable.thaw()

    def leave(self) -> None:
        """See Movable."""
        while self._given:
            self._given.pop().leave()
        if self.connection.movable is not None:
            self.connection.movable.leave()

    def keep(self) -> None:
        """See Movable."""
        self.connection.drain(self.active.config.timeouts.linger)


def relaying(connection: Connection) -> int:
    """Return how many streams of a connection are served here though another process has it."""
    driver = connection.driver
    return driver.relaying if isinstance(driver, Moving) else 0


@attrs.define(eq=False)
class MovableUpstream:
    """One to an endpoint, that nobody uses."""

    cluster: str
    settings: bytes
    given: Given

    @property
    def name(self) -> str:
        """See Movable."""
        return f"upstream {self.given.handed.protocol}"

    @property
    def states(self) -> tuple[str, ...]:
        """See Movable."""
        handed = self.given.handed
        return (handed.protocol, TLS) if handed.moment.parts.stream else (handed.protocol,)

    def freeze(self) -> tuple[bytes, list[socket.socket]]:
        """See Movable: it stands still already."""
        given = self.given
        try:
            return pack(
                Upstream(
                    cluster=self.cluster,
                    address=given.endpoint.address,
                    settings=self.settings,
                    handed=given.handed,
                )
            )
        except BaseException:
            given.stay()
            raise

    def thaw(self) -> None:
        """See Movable."""
        self.given.stay()

    def leave(self) -> None:
        """See Movable."""
        self.given.leave()

    def keep(self) -> None:
        """See Movable: its cluster closes it in its time."""
