"""Traits: facts about a protocol that the core needs before a byte flows."""

from __future__ import annotations

import enum
from typing import Final

import attrs

WEB_FAMILY: Final = "web"
"""The family of protocols whose requests are addressed by a ``Target``, and whose native codes have three digits."""
API_VERSION: Final = 1
"""Version of the codec and filter contracts; a plugin built for another one is refused."""


class Sharing(enum.Enum):
    """How streams share a connection."""

    SERIAL = "serial"
    """One after another; a stream has the connection to itself (HTTP/1.1, L4)."""
    MESSAGES = "messages"
    """Many at once, each message whole in one frame, matched by id (Bolt, Dubbo)."""
    FRAMES = "frames"
    """Many at once, bodies in pieces (HTTP/2)."""


class Role(enum.Enum):
    """Which end of a connection a codec plays."""

    SERVER = "server"
    """Towards a downstream: requests come in."""
    CLIENT = "client"
    """Towards an upstream: requests go out."""


@attrs.frozen(kw_only=True)
class Traits:
    """What a protocol can do. Checked against the codec by the registry and by ``check_codec``."""

    sharing: Sharing
    """How streams share a downstream connection."""
    upstream_sharing: Sharing | None = None
    """How streams share an upstream connection; None: as ``sharing``."""
    family: str = ""
    """Protocols of one family share native status codes and targets; empty: the codec's own name."""
    dialects: tuple[str, ...] = ()
    """Conventions for calls that travel in its requests (``Rpc.dialect``): a route may ask for them as protocols."""
    calls: tuple[str, ...] = ()
    """Those of them that it is made for: a cluster that is told no codec is spoken to in this one for their calls."""
    half_close: bool = False
    """A peer that has finished sending may still receive. Otherwise the end of its input means it is gone."""
    trailers: bool = False
    interim: bool = False
    oneway: bool = False
    reverse: bool = False
    """Either side may call the other on one connection."""
    alpn: tuple[str, ...] = ()
    """ALPN protocol ids (RFC 7301), best first."""
    rank: int = 100
    """Detection order, lowest first: a specific magic number beats a single byte."""
    server_first: bool = False
    """The server may speak before the client."""
    whole_bodies: bool = False
    """A serial protocol whose messages come whole, their length known first (Redis). Its codec takes no bodies in
    pieces. Always so where ``sharing`` is MESSAGES, which need not say it."""
    stateful: bool = False
    """What a client says holds for what it says next on a connection (Redis: MULTI, SELECT, AUTH). So each client has
    an upstream connection of its own, unless a cluster says ``connections: shared``."""
    heartbeat_pause: float = 0.0
    """Seconds between two heartbeats to a peer that says nothing else, and takes more for abuse. 0: it does not."""
    headless: bool = False
    """A stream begins with the connection and has no head on the wire (L4)."""
    api: int = API_VERSION
