"""The "fixed header + length" skeleton: a whole codec plugin from a declaration of its fixed head.

Most private RPC protocols are a magic number, a kind, an id, a status and some lengths, then headers, then a body.
Who declares these gets detection, multiplexing, id rewriting, heartbeats, goaway, error replies, limits, snapshots
and totality: whatever the author's own functions raise on hostile bytes becomes a ``Violation``. What does not fit
(checksums, several versions at once) implements ``MessageWire`` instead, as Bolt does.
(contrast: mosn:pkg/protocol/xprotocol/example, 507 lines for one such protocol)
"""

from __future__ import annotations

import attrs

from xproxy.codecs.api import Codec, Hint, Verdict
from xproxy.codecs.framed_wire import Declaration, FramedWire
from xproxy.codecs.message_state import VERSIONS
from xproxy.codecs.message_wire import ONEWAY, Kind
from xproxy.codecs.messages import (
    FullMessageCodec,
    GoAwayMessageCodec,
    HeartbeatMessageCodec,
    MessageCodec,
)
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits


@attrs.frozen(kw_only=True, eq=False)
class LengthFramed(Declaration):
    """A codec plugin out of a declaration. Raises ValueError for one that cannot work."""

    traits: Traits = attrs.field(init=False)
    examples: tuple[bytes, ...] = attrs.field(init=False)
    _wire: FramedWire = attrs.field(init=False, repr=False)
    _codec: type[MessageCodec] = attrs.field(init=False, repr=False)

    @traits.default
    def _default_traits(self) -> Traits:
        return Traits(
            sharing=Sharing.MESSAGES,
            oneway=ONEWAY in self.kinds.values(),
            reverse=self.reverse,
            rank=self.rank,
        )

    @examples.default
    def _default_examples(self) -> tuple[bytes, ...]:
        head = RequestHead(service="example", method="example")
        return (FramedWire(self).request(1, head, b""),)

    @_wire.default
    def _default_wire(self) -> FramedWire:
        return FramedWire(self)

    @_codec.default
    def _default_codec(self) -> type[MessageCodec]:
        beats = Kind.HEARTBEAT in self.kinds.values()
        if Kind.GOAWAY in self.kinds.values():
            return FullMessageCodec if beats else GoAwayMessageCodec
        return HeartbeatMessageCodec if beats else MessageCodec

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Judge by the magic number, byte by byte."""
        return self._wire.detect(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        return self._codec(self._wire, role, limits, reverse=self.reverse)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        codec = self._codec(self._wire, role, limits, reverse=self.reverse)
        codec.load(state)
        return codec

    @property
    def state_versions(self) -> tuple[int, ...]:
        """See SupportsStateVersions."""
        return VERSIONS

    def status_of(self, native_status: int) -> Status:
        return self.meaning_of(native_status)
