"""Bolt's codec: the message engine with Bolt's wire.

There is no ``state.py`` and no ``snapshot.py`` beside it: what lives, and how it is written down, is the engine's,
the same for every message protocol (``codecs/messages.py``).
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.bolt.wire import BoltWire
from xproxy.codecs.messages import FullMessageCodec
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

_WIRE: Final = BoltWire()


class BoltCodec(FullMessageCodec):
    """One Bolt connection. Goaway goes only to peers heard using it: SOFABolt's Java side throws on it."""

    __slots__ = ()

    def __init__(self, role: Role, limits: Limits) -> None:
        super().__init__(_WIRE, role, limits, reverse=True, goaway_known=False)
