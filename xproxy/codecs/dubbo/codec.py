"""Dubbo's codec: the message engine with Dubbo's wire.

There is no ``state.py`` and no ``snapshot.py`` beside it: what lives, and how it is written down, is the engine's,
the same for every message protocol (``codecs/messages.py``).
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.dubbo.wire import DubboWire
from xproxy.codecs.messages import FullMessageCodec, SlicedMessageCodec
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

_WIRES: Final = {
    (strict, unread): DubboWire(strict=strict, unread=unread)
    for strict in (False, True)
    for unread in (False, True)
}


class DubboCodec(SlicedMessageCodec, FullMessageCodec):
    """One Dubbo connection: either side may call. The read-only event is known to every Dubbo since 2.0."""

    __slots__ = ()

    def __init__(
        self, role: Role, limits: Limits, *, strict: bool = True, unread: bool = True
    ) -> None:
        """See DubboWire for both options."""
        super().__init__(_WIRES[strict, unread], role, limits, reverse=True)
