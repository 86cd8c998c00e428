"""The kit's rules on a link."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from xproxy.codecs.api import Codec
from xproxy.codecs.relay.codec import RelayCodec
from xproxy.codecs.relay.plugin import PLUGIN, RelayPlugin
from xproxy.codecs.relay.snapshot import SCHEMA
from xproxy.model.frames import Frame, Head
from xproxy.model.limits import Limits
from xproxy.model.message import ResponseHead
from xproxy.model.traits import Role
from xproxy.testing import check_codec


class Numbered(RelayCodec):
    """Gives every answer a number. A link keeps it that a reply was made here; the kit knows no codec that does."""

    __slots__ = ()

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return [
            attrs.evolve(
                frame,
                message=attrs.evolve(
                    frame.message, native_status=frame.message.status.value, extra=None
                ),
            )
            if isinstance(frame, Head)
            and isinstance(frame.message, ResponseHead)
            and frame.message.native_status is None
            else frame
            for frame in super().receive(data)
        ]


@attrs.frozen
class NumberedPlugin(RelayPlugin):
    def open(self, role: Role, limits: Limits) -> Numbered:
        opened = PLUGIN.open(role, limits)
        return Numbered(limits, SCHEMA.unpack(opened.snapshot()))

    def restore(self, state: bytes, role: Role, limits: Limits) -> Numbered:
        restored: Codec = PLUGIN.restore(state, role, limits)
        assert isinstance(restored, RelayCodec)
        return Numbered(limits, SCHEMA.unpack(restored.snapshot()))


def test_conformance() -> None:
    check_codec(NumberedPlugin())
