"""A snapshot: one configuration, assembled. A stream lives its whole life on the one it started with."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.detect import Detector
from xproxy.config.schema import Config, ListenerConfig
from xproxy.connection.service import Service
from xproxy.model.limits import Limits
from xproxy.model.networks import Networks
from xproxy.stream.lifetime import SupportsRun
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


@attrs.frozen(eq=False, kw_only=True)
class Snapshot:
    """Everything that follows from one configuration."""

    config: Config
    listeners: Mapping[str, ListenerPlan]
    clusters: Mapping[str, Cluster]
    parts: tuple[SupportsRun, ...]
    """Filters with a task of their own."""

    @property
    def running(self) -> tuple[object, ...]:
        """All that has a task for as long as a snapshot uses it."""
        return (*self.clusters.values(), *self.parts)

    async def wait_idle(self) -> None:
        """Return when the last stream has left; call it once the snapshot is no longer in use."""
        for plan in self.listeners.values():
            await plan.service.wait_idle()
            if plan.fallback is not None:
                await plan.fallback.wait_idle()
