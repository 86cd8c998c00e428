"""A snapshot: one configuration, assembled. A stream lives its whole life on the one it started with."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.detect import Detector
from xproxy.config.schema import ClusterConfig, Config, ListenerConfig
from xproxy.connection.service import Service
from xproxy.model.limits import Limits
from xproxy.model.networks import Networks
from xproxy.proxy.listener_tls import ListenerTls
from xproxy.routing.router import Router
from xproxy.routing.table import RouteTable
from xproxy.stream.carrying import SupportsCarry
from xproxy.stream.lifetime import SupportsClusters, SupportsRun
from xproxy.upstream.cluster import Cluster


@attrs.frozen(eq=False, kw_only=True)
class ListenerPlan:
    """How one listener serves its connections."""

    config: ListenerConfig
    service: Service
    detector: Detector | None
    """None: every connection is L4, nothing is looked at."""
    only: CodecPlugin | None
    """The one protocol that the configuration names for this port, if it is one and there is no fallback."""
    fallback: Service | None
    """Serves what nobody recognises, as L4; None closes it."""
    opaque: CodecPlugin
    limits: Limits
    believed: Networks
    """Whose PROXY header is believed."""
    tls: ListenerTls | None = None
    """None: no TLS is looked for."""
    by_alpn: Mapping[str, CodecPlugin] = attrs.field(factory=dict)
    """What is spoken once it was agreed on in TLS, the best first."""
    silent: Service | None = None
    """Serves whom listens first, as L4."""
    refusal: Service | None = None
    """Answers plaintext where only TLS is wanted; None: it is wanted too."""

    @property
    def strict(self) -> bool:
        """Plaintext is refused."""
        return self.refusal is not None

    @property
    def services(self) -> tuple[Service, ...]:
        """All that streams can be on."""
        found = (self.service, self.fallback, self.silent, self.refusal)
        return tuple(service for service in found if service is not None)


@attrs.frozen(eq=False, kw_only=True)
class Snapshot:
    """Everything that follows from one configuration."""

    config: Config
    listeners: Mapping[str, ListenerPlan]
    clusters: Mapping[str, Cluster]
    parts: tuple[SupportsRun, ...]
    """Filters with a task of their own."""
    carrying: tuple[SupportsCarry, ...] = ()
    """Filters, and listeners' TLS, that know something for the process that takes over."""
    seeing: tuple[SupportsClusters, ...] = ()
    """Filters that look at the clusters."""
    tables: Mapping[str, RouteTable] = attrs.field(factory=dict)
    routers: Mapping[str, Router] = attrs.field(factory=dict)
    """By table."""
    changes: tuple[tuple[Cluster, ClusterConfig], ...] = ()
    """Clusters that stay, and get other endpoints when this comes into force."""

    @property
    def running(self) -> tuple[object, ...]:
        """All that has a task for as long as a snapshot uses it."""
        return (*self.clusters.values(), *self.parts)

    async def wait_idle(self) -> None:
        """Return when the last stream has left; call it once the snapshot is no longer in use."""
        for plan in self.listeners.values():
            for service in plan.services:
                await service.wait_idle()
