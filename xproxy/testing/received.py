"""What comes of bytes, with all that a codec holds back for the next turn."""

from __future__ import annotations

from collections.abc import Sequence

from xproxy.codecs.api import Codec, SupportsBacklog, supports
from xproxy.model.frames import Frame


def received(codec: Codec, data: bytes | None) -> Sequence[Frame]:
    """Let ``codec`` receive ``data``, and go on while it has a backlog, as a connection does."""
    frames = codec.receive(data)
    while _busy(codec):
        frames = [*frames, *codec.receive(b"")]
    return frames


def _busy(codec: Codec) -> bool:
    return supports(codec, SupportsBacklog) and codec.backlog
