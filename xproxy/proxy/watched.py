"""Raw TCP by default and not by decision: a client was silent too long, or had said too little, to be recognised.

What such a client says later is still looked at. Where it turns out to be a protocol of this port, the connection
ends before the bytes that show it have been passed on: else waiting within a request would lead past every rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from xproxy.codecs.api import Codec, CodecPlugin, Hint, SupportsBypass, supports
from xproxy.codecs.detect import Detected, Detection, Detector, NeedMore
from xproxy.model.frames import Frame, Violation
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import Role, Traits


@attrs.frozen
class Watched:
    """The plugin of an L4 connection whose client's first words are still to be heard, or to be finished."""

    opaque: CodecPlugin
    detector: Detector
    hint: Hint

    @property
    def name(self) -> str:
        return self.opaque.name

    @property
    def traits(self) -> Traits:
        return self.opaque.traits

    def open(self, role: Role, limits: Limits) -> Codec:
        """Start a connection."""
        return WatchedCodec(self.opaque.open(role, limits), self.detector, self.hint)


class WatchedCodec:
    """An opaque codec that listens in until it is certain that nobody else is meant."""

    __slots__ = ("_codec", "_detector", "_hint", "_over", "_passed", "_seen", "_watching")

    def __init__(self, codec: Codec, detector: Detector, hint: Hint) -> None:
        self._codec = codec
        self._detector = detector
        self._hint = hint
        self._seen = b""
        self._passed = 0  # of what was seen
        self._watching = True
        self._over = False

    @property
    def transparent(self) -> bool:
        """See SupportsBypass: nothing passes unseen before it is certain."""
        codec = self._codec
        return not self._watching and supports(codec, SupportsBypass) and codec.transparent

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes. A Violation where they are, or end as, what a codec of this port recognises.

        What may be that codec's, and nobody else's, is held back until it is certain.
        """
        if self._over:
            return ()
        if not self._watching or data == b"":
            return self._codec.receive(data)
        self._seen += data or b""
        if data is None:
            outcome: Detection = self._detector.conclude(self._seen, self._hint)
        else:
            outcome = self._detector.decide(self._seen, self._hint)
        if isinstance(outcome, Detected):
            self._over = True
            return (
                Violation(
                    f"{outcome.plugin.name} after a silence, which had made it raw TCP",
                    reason=Status.INVALID_ARGUMENT,
                ),
            )
        if isinstance(outcome, NeedMore) and not outcome.faint:
            return self._codec.receive(b"")
        rest = self._seen[self._passed :]
        self._passed = len(self._seen)
        if not isinstance(outcome, NeedMore):
            self._watching = False
            self._seen = b""
        frames = self._codec.receive(rest)
        return frames if data is not None else (*frames, *self._codec.receive(None))

    def send(self, frame: Frame) -> bytes:
        """As the codec within."""
        return self._codec.send(frame)
