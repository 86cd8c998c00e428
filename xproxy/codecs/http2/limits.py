"""What HTTP/2 bounds beyond the limits that all codecs share. Defaults are Envoy's unless a field says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from xproxy.model.limits import KIB, MIB, Duration, Limits, Size

MAX_WINDOW: Final = 2**31 - 1
"""RFC 9113 §6.9.1: no window is larger."""
MAX_STREAM_ID: Final = 2**31 - 1
MAX_FRAME_BYTES: Final = 2**24 - 1
"""RFC 9113 §4.2: no frame is longer."""
FIRST_STREAMS: Final = 100
"""Requests that any server takes at a time before it said otherwise (RFC 9113 §6.5.2: it should take so many)."""
FIRST_WINDOW: Final = 65_535
"""Bytes: every window before anybody said otherwise (RFC 9113 §6.9.2)."""
FIRST_FRAME_BYTES: Final = 16 * KIB
"""What every peer takes in a frame before it said otherwise (RFC 9113 §6.5.2)."""
HEADS_READ: Final = 4
"""Times ``max_head_bytes``: so long a header block, or the list that it unfolds to, is read to its end, as the table
must stay the same as its sender's. Its stream alone is refused; beyond, the connection ends."""
ANY_HEAD_BYTES: Final = 8 * KIB
"""A header list so long is sent before the peer has said how long a one it takes; no peer is known to take less."""
NO_HEAD_BOUND: Final = 2**32 - 1
"""The bound of a peer that has said none."""
FIRST_TABLE_BYTES: Final = 4096
"""HPACK's dynamic table before anybody said otherwise (RFC 9113 §6.5.2)."""

_STREAMS: Final[int | None] = 100


def _between(
    least: int, most: int
) -> list[Callable[[Any, attrs.Attribute[Size], Size], Any]]:  # Any: as attrs has it
    return [attrs.validators.ge(Size(least)), attrs.validators.le(Size(most))]


@attrs.frozen(kw_only=True)
class Http2Limits:
    """Settings we announce, and how much a peer may do that serves nobody. The options of the plugin."""

    max_concurrent_streams: int | None = attrs.field(
        default=_STREAMS,
        validator=attrs.validators.optional(
            [attrs.validators.ge(1), attrs.validators.le(MAX_STREAM_ID)]
        ),
    )
    """Requests that a client may have in flight on a connection; more are refused. RFC 9113 §6.5.2 advises no less.
    None: as many as the listener's `max_streams`, which bounds it in any case."""
    stream_window_bytes: Size = attrs.field(
        default=Size(16 * MIB), validator=_between(1, MAX_WINDOW)
    )
    """Body bytes of one stream that may wait here for their consumer, once it has shown that it takes them."""
    first_window_bytes: Size = attrs.field(
        default=Size(64 * KIB), validator=_between(1, MAX_WINDOW)
    )
    """The same for a stream that begins, or whose consumer takes nothing; at most `stream_window_bytes`. Ours."""
    connection_window_bytes: Size = attrs.field(
        default=Size(24 * MIB), validator=_between(1, MAX_WINDOW)
    )
    """Body bytes that all streams together may have waiting here beyond `first_window_bytes` each."""
    frame_bytes: Size = attrs.field(
        default=Size(FIRST_FRAME_BYTES),
        validator=_between(FIRST_FRAME_BYTES, MAX_FRAME_BYTES),
    )
    """Longest payload of a frame that is taken; one frame may wait in a buffer until it is whole."""
    table_bytes: Size = attrs.field(
        default=Size(FIRST_TABLE_BYTES),
        validator=_between(0, 64 * KIB),
    )
    """HPACK's dynamic table, for what is received and what is sent."""
    extended_connect: bool = True
    """Offer clients CONNECT for a protocol, e.g. WebSocket (RFC 8441). Routes still have to allow it."""
    settings_timeout: Duration = attrs.field(
        default=Duration(10.0), validator=attrs.validators.ge(Duration(0.0))
    )
    """Until the peer has acknowledged our settings (RFC 9113 §6.5.3); 0: for ever. Ours."""
    max_continuations: int = attrs.field(default=12, validator=attrs.validators.ge(0))
    """CONTINUATION frames of one header block, beyond those that its longest size needs. Ours."""
    max_settings: int = attrs.field(default=32, validator=attrs.validators.ge(7))
    """Values in one SETTINGS frame (nghttp2's)."""
    max_empty_frames: int = attrs.field(default=10, validator=attrs.validators.ge(0))
    """Frames in a row that bring nothing and end nothing. Ours: Envoy's is 1, but two streams may each have one."""
    max_priorities: int = attrs.field(default=100, validator=attrs.validators.ge(0))
    """PRIORITY frames for each stream opened, and so many before the first."""
    max_window_updates: int = attrs.field(default=10, validator=attrs.validators.ge(0))
    """WINDOW_UPDATE frames for each DATA frame that we sent, twice; see ``guard``."""
    max_control_frames: int = attrs.field(default=1000, validator=attrs.validators.ge(0))
    """PING, SETTINGS and other frames that carry nothing for a stream, beyond what the work done explains. Ours."""
    max_resets: int = attrs.field(default=100, validator=attrs.validators.ge(0))
    """Streams reset within 250 ms and unanswered, beyond which they may not be the greater part of all. Ours."""

    @property
    def first_window(self) -> int:
        """Bytes of a stream's window when it begins."""
        return min(self.first_window_bytes, self.stream_window_bytes)

    def streams_within(self, limits: Limits) -> int:
        """Return how many requests a client may have in flight on a connection."""
        own = self.max_concurrent_streams
        return limits.max_streams if own is None else min(own, limits.max_streams)


DEFAULT_HTTP2_LIMITS: Final = Http2Limits()
