"""Upstream connections that go to another process: out of a connector between requests, then gone or put back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Protocol, runtime_checkable

import attrs

from xproxy.config.schema import ClusterConfig
from xproxy.connection.standing import Moment
from xproxy.upstream.endpoint import Endpoint


@attrs.frozen(kw_only=True)
class Handed:
    """What another process must know of a connection that nobody uses."""

    protocol: str
    """Its codec's name."""
    moment: Moment
    kind: Hashable = None
    """What sets it apart from others to its endpoint, where its codec says that something does."""
    lane: str = ""
    """What its requests' clients speak: which of a cluster's connectors it is."""
    client: str = ""
    """The codec of the client whose request opened that one."""
    requests: int = 0
    """Exchanges begun on it, where it has one at a time: whether one may be sent again depends on that."""
    idle: int = 0
    """Ticks (``TICK``) since anybody used it, where that is counted for each: its idle timeout goes on."""


@runtime_checkable
class SupportsGive(Protocol):
    """A connection that is bound to a client's, and goes with it when nothing is in flight on either."""

    @property
    def quiet(self) -> bool:
        """Whether it can go now."""
        ...

    def give(self) -> Given:
        """Freeze it. Raises ValueError, TlsError; then it goes on."""
        ...


@attrs.frozen(eq=False, kw_only=True)
class Given:
    """A connection that nobody uses, frozen. Exactly one of ``stay`` and ``leave`` is to be called."""

    endpoint: Endpoint
    handed: Handed
    stay: Callable[[], None]
    """The other process does not want it: put it back."""
    leave: Callable[[], None]
    """The other process has it: close our copy."""


def settings_of(config: ClusterConfig) -> bytes:
    """Return a digest of what a cluster's connections go by: those of another one are not to be taken."""
    said = (config.codec, config.tls, config.proxy_protocol, config.limits)
    return hashlib.sha256(repr(said).encode()).digest()[:16]
