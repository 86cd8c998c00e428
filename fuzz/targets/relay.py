"""Invariant: any bytes over a link, cut anywhere and moved at any byte, give the same frames and no exception.

As every codec's: see ``codec.py``. A link keeps it that a reply was made by the proxy, which the kit knows of no
codec: there each answer gets a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from fuzz.targets import Target
from fuzz.targets.codec import target as codec_target
from xproxy.codecs.relay.codec import RelayCodec
from xproxy.codecs.relay.plugin import PLUGIN, RelayPlugin
from xproxy.codecs.relay.snapshot import SCHEMA
from xproxy.model.frames import Frame, Head
from xproxy.model.limits import Limits
from xproxy.model.message import ResponseHead
from xproxy.model.traits import Role
from xproxy.registry import Registry


class Numbered(RelayCodec):
    """Gives every answer a number."""

    __slots__ = ()

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """See Codec."""
        return [_numbered(frame) for frame in super().receive(data)]


def _numbered(frame: Frame) -> Frame:
    if not isinstance(frame, Head) or not isinstance(frame.message, ResponseHead):
        return frame
    if frame.message.native_status is not None:
        return frame
    number = frame.message.status.value
    return attrs.evolve(
        frame, message=attrs.evolve(frame.message, native_status=number, extra=None)
    )


@attrs.frozen
class NumberedPlugin(RelayPlugin):
    """Makes such codecs."""

    def open(self, role: Role, limits: Limits) -> Numbered:
        """Make one end of a new link."""
        return self.restore(PLUGIN.open(role, limits).snapshot(), role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Numbered:
        """Go on where a snapshot was taken. Raises ValueError."""
        restored = PLUGIN.restore(state, role, limits)
        return Numbered(limits, SCHEMA.unpack(restored.snapshot()))


def target(_registry: Registry) -> Target:
    """Return the target: no registry knows a link."""
    return codec_target(NumberedPlugin())
