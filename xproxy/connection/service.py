"""What a downstream connection serves its streams with: one snapshot's handler, and the counters of its listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import Handler, Request


class Timeouts(Protocol):
    """How long things may take, in seconds; 0: for ever. ``config.schema.TimeoutsConfig`` says what each is."""

    @property
    def detect(self) -> float: ...
    @property
    def idle(self) -> float: ...
    @property
    def head(self) -> float: ...
    @property
    def body(self) -> float: ...
    @property
    def write(self) -> float: ...
    @property
    def stream_idle(self) -> float: ...
    @property
    def linger(self) -> float: ...


@attrs.define(eq=False)
class DownstreamStats:
    """Counters of one listener."""

    downstream_cx_total: int = 0
    downstream_cx_active: int = attrs.field(default=0, metadata={"kind": "gauge"})
    downstream_cx_overflow: int = 0
    """Closed at once: max_connections, or no file descriptor was left for it."""
    downstream_cx_shed: int = 0
    """Closed while idle, to make room for others."""
    downstream_cx_unknown_protocol: int = 0
    """No codec recognised the bytes, or not in time."""
    downstream_cx_ended_early: int = 0
    """Gone, or broken, before the protocol was known."""
    downstream_cx_proxy_protocol_error: int = 0
    downstream_cx_silent: int = 0
    """Relayed as L4, as the client listened first."""
    downstream_tls_handshakes: int = 0
    """That went well."""
    downstream_tls_resumed: int = 0
    """Of these, how many resumed a session."""
    downstream_tls_handshakes_active: int = attrs.field(default=0, metadata={"kind": "gauge"})
    downstream_tls_failed: dict[str, int] = attrs.field(factory=dict, metadata={"label": "reason"})
    """Handshakes that did not, by alert, or timeout, overflow, ended, hello (never whole), unknown-name."""
    downstream_tls_passthrough: int = 0
    """Relayed with their TLS."""
    downstream_tls_plaintext_refused: int = 0
    downstream_cx_protocol_error: int = 0
    """The peer broke its protocol."""
    downstream_cx_limit: dict[str, int] = attrs.field(factory=dict, metadata={"label": "limit"})
    """Of these, the ones that exceeded a bound, by the bound's name."""
    downstream_cx_idle_timeout: int = 0
    downstream_cx_head_timeout: int = 0
    downstream_cx_write_timeout: int = 0
    downstream_cx_destroy_remote: int = 0
    """The client went away while a stream was in flight."""
    downstream_rq_total: int = 0
    downstream_rq_active: int = attrs.field(default=0, metadata={"kind": "gauge"})
    downstream_rq_timeout: int = 0
    downstream_rq_reset: int = 0
    """Responses broken off after their head."""
    downstream_rq_link_lost: dict[str, int] = attrs.field(
        factory=dict, metadata={"label": "protocol"}
    )
    """Lost with an older process that served them after a takeover; by reason of their end, also among the others."""
    downstream_rq_refused: int = 0
    """Refused by their codec, before any filter or route saw them: malformed, or too many at a time."""
    downstream_rq_local: int = 0
    """Answered by the proxy itself, with an error."""
    downstream_tunnels_total: int = 0
    """Requests that became a tunnel (CONNECT, upgrades)."""
    downstream_tunnels_active: int = attrs.field(default=0, metadata={"kind": "gauge"})
    downstream_rx_bytes_total: int = 0
    downstream_tx_bytes_total: int = 0
    statuses: dict[Status, int] = attrs.field(factory=dict, metadata={"label": "status"})
    """Responses by neutral status."""


@attrs.define(eq=False)
class Service:
    """One listener's handler in one snapshot. A stream takes it when it starts and keeps it to its end."""

    handler: Handler
    timeouts: Timeouts
    max_outbox_bytes: int
    max_streams: int
    max_message_bytes: int
    refusals: tuple[Callable[[Request, ResponseHead], None], ...] = ()
    """Who is told of requests that were refused before any filter could see them; see ``SupportsRefusals``."""
    direct: Handler = attrs.field(default=attrs.Factory(lambda self: self.handler, takes_self=True))
    """The same for requests of protocols that have no targets (RFC 9110 §7.1): none is to be put into one form."""
    streams: int = 0
    """In flight."""
    drained: trio.Event | None = None
    """Somebody waits for the last stream: whoever counts it out calls ``emptied``."""

    def emptied(self) -> None:
        """The last stream has ended."""
        if self.drained is not None:
            self.drained.set()

    async def wait_idle(self) -> None:
        """Return when no stream uses this any more; call it only once nothing new can start on it."""
        if self.streams:
            self.drained = trio.Event()
            await self.drained.wait()


@attrs.define(eq=False)
class FilterChain:
    """A listener as its connections see it; a reload puts another service in its place."""

    name: str
    service: Service
    stats: DownstreamStats
    draining: bool = False
