"""Which endpoints a cluster has found, for the process that takes over: it begins with them, and looks for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias, cast

import attrs

from xproxy.codecs.state_kinds import mapping, number, sequence, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.stream.carrying import CarriedAs
from xproxy.upstream.discovery.finding import MOST_ENDPOINTS

_MOST_METADATA: Final = 256
"""Texts about one endpoint."""
_TEXT: Final = text(1024)
_Health: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
_HEALTH: Final = ("healthy", "degraded", "unhealthy")


@attrs.frozen
class _Endpoint:
    address: str
    dial: str
    weight: int
    metadata: dict[str, str]
    priority: int
    region: str
    zone: str
    sub_zone: str
    hostname: str
    health: str


@attrs.frozen
class _Found:
    endpoints: list[_Endpoint]


_ENDPOINT: Final = StateRecord(
    _Endpoint,
    state_field("address", _TEXT),
    state_field("dial", _TEXT, ""),
    state_field("weight", number(1, 1_000_000), 1),
    state_field("metadata", mapping(_TEXT, _TEXT, _MOST_METADATA), {}),
    state_field("priority", number(0, 127), 0),
    state_field("region", _TEXT, ""),
    state_field("zone", _TEXT, ""),
    state_field("sub_zone", _TEXT, ""),
    state_field("hostname", _TEXT, ""),
    state_field("health", _TEXT, _HEALTH[0]),
)
_FOUND: Final = StateSchema(
    "found endpoints",
    1,
    StateRecord(_Found, state_field("endpoints", sequence(_ENDPOINT.kind, MOST_ENDPOINTS))),
)


@attrs.frozen(eq=False)
class FoundEndpoints:
    """The endpoints of a cluster whose configuration does not name them all."""

    cluster: str
    config: ClusterConfig
    found: Callable[[], Sequence[EndpointConfig] | None]
    """Returns the last answer; None: there was none."""
    learn: Callable[[Sequence[EndpointConfig]], None]
    """Takes one to begin with."""

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(
            kind="found endpoints",
            name=self.cluster,
            version=1,
            settings=(self.config.type, self.config.endpoints),
        )

    def carry(self) -> bytes:
        """See SupportsCarry."""
        found = self.found()
        if found is None:
            return b""
        return _FOUND.pack(_Found([_written(one) for one in found[:MOST_ENDPOINTS]]))

    def resume(self, data: bytes) -> None:
        """See SupportsCarry."""
        self.learn([_read(one) for one in _FOUND.unpack(data).endpoints])


def _written(config: EndpointConfig) -> _Endpoint:
    return _Endpoint(
        address=str(config.address),
        dial="" if config.dial is None else str(config.dial),
        weight=config.weight,
        metadata=dict(config.metadata),
        priority=config.priority,
        region=config.region,
        zone=config.zone,
        sub_zone=config.sub_zone,
        hostname=config.hostname,
        health=config.health,
    )


def _read(told: _Endpoint) -> EndpointConfig:
    if told.health not in _HEALTH:
        raise ValueError(f"no endpoint is {told.health}")
    return EndpointConfig(
        address=Address.parse(told.address),
        dial=Address.parse(told.dial) if told.dial else None,
        weight=told.weight,
        metadata=told.metadata,
        priority=told.priority,
        region=told.region,
        zone=told.zone,
        sub_zone=told.sub_zone,
        hostname=told.hostname,
        health=cast("_Health", told.health),
    )
