"""What HTTP/2 bounds beyond the limits that all codecs share. Defaults are Envoy's unless a field says otherwise."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.model.limits import KIB, MIB

MAX_WINDOW: Final = 2**31 - 1
"""RFC 9113 §6.9.1: no window is larger."""
MAX_STREAM_ID: Final = 2**31 - 1
MAX_FRAME_BYTES: Final = 2**24 - 1
"""RFC 9113 §4.2: no frame is longer."""
FIRST_WINDOW: Final = 65_535
"""Bytes: every window before anybody said otherwise (RFC 9113 §6.9.2)."""
FIRST_FRAME_BYTES: Final = 16 * KIB
"""What every peer takes in a frame before it said otherwise (RFC 9113 §6.5.2)."""
FIRST_TABLE_BYTES: Final = 4096
"""HPACK's dynamic table before anybody said otherwise (RFC 9113 §6.5.2)."""


@attrs.frozen(kw_only=True)
class Http2Limits:
    """Settings we announce, and how much a peer may do that serves nobody. For all connections of a plugin."""

    stream_window_bytes: int = attrs.field(
        default=16 * MIB, validator=[attrs.validators.ge(1), attrs.validators.le(MAX_WINDOW)]
    )
    """Body bytes of one stream that may wait here for their consumer."""
    connection_window_bytes: int = attrs.field(
        default=24 * MIB, validator=[attrs.validators.ge(1), attrs.validators.le(MAX_WINDOW)]
    )
    """Body bytes of all streams that may wait here. Below 65,535 it holds once that much has been consumed."""
    frame_bytes: int = attrs.field(
        default=FIRST_FRAME_BYTES,
        validator=[attrs.validators.ge(FIRST_FRAME_BYTES), attrs.validators.le(MAX_FRAME_BYTES)],
    )
    """Longest payload of a frame that is taken; one frame may wait in a buffer until it is whole."""
    table_bytes: int = attrs.field(
        default=FIRST_TABLE_BYTES, validator=[attrs.validators.ge(0), attrs.validators.le(64 * KIB)]
    )
    """HPACK's dynamic table, for what is received and what is sent."""
    extended_connect: bool = False
    """Let clients open tunnels for a protocol by CONNECT (RFC 8441)."""
    max_continuations: int = attrs.field(default=12, validator=attrs.validators.ge(0))
    """CONTINUATION frames of one header block, beyond those that its longest size needs. Ours."""
    max_settings: int = attrs.field(default=32, validator=attrs.validators.ge(7))
    """Values in one SETTINGS frame (nghttp2's)."""
    max_empty_frames: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    """Frames in a row that bring nothing and end nothing."""
    max_priorities: int = attrs.field(default=100, validator=attrs.validators.ge(0))
    """PRIORITY frames for each stream opened, and so many before the first."""
    max_window_updates: int = attrs.field(default=10, validator=attrs.validators.ge(0))
    """WINDOW_UPDATE frames for each DATA frame that we sent, twice; see ``guard``."""
    max_control_frames: int = attrs.field(default=1000, validator=attrs.validators.ge(0))
    """PING, SETTINGS and other frames that carry nothing for a stream, beyond what the work done explains. Ours."""
    max_resets: int = attrs.field(default=100, validator=attrs.validators.ge(0))
    """Streams reset before they were answered, beyond which they may not be the greater part of all. Ours."""


DEFAULT_HTTP2_LIMITS: Final = Http2Limits()
