"""Limits: the bound of everything a peer can make a codec hold, with its default; and the units of options."""

from __future__ import annotations

from pathlib import Path
from typing import NewType

import attrs

Duration = NewType("Duration", float)
"""Seconds; written ``250ms``, ``3s``, ``5m``, ``1h`` or ``0``."""
Size = NewType("Size", int)
"""Bytes; written ``64KiB``, ``1MiB``, ``512B`` or ``0``."""
File = NewType("File", Path)
"""A file that must be there; written as a path, relative to the configuration file's folder or absolute."""

KIB = 1024
MIB = 1024 * KIB


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of one connection's codec. All sizes in bytes."""

    max_head_bytes: int = 64 * KIB
    """Start line and header fields together, or the header block of an RPC message; trailers likewise."""
    max_headers: int = 100
    """Header fields in one head."""
    max_target_bytes: int = 8 * KIB
    """The request target of a web request."""
    max_message_bytes: int = 16 * MIB
    """A whole message, where a protocol sends messages whole. Checked on the declared length."""
    max_chunk_extension_bytes: int = 256
    """The extension of one chunk (RFC 9112 §7.1.1)."""
    max_chunk_extensions_bytes: int = 16 * KIB
    """All chunk extensions of one message."""
    max_streams: int = 1024
    """Streams in flight on one connection."""
    max_detect_bytes: int = 4 * KIB
    """Bytes looked at before a connection counts as unrecognised."""


DEFAULT_LIMITS = Limits()
