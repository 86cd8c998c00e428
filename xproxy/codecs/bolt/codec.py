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

_STRICT: Final = BoltWire()
_TRUSTING: Final = BoltWire(strict=False)


class BoltCodec(FullMessageCodec):
    """One Bolt connection. Goaway goes only to peers heard using it: SOFABolt's Java side throws on it."""

    __slots__ = ()

    def __init__(self, role: Role, limits: Limits, *, strict: bool = True) -> None:
        """``strict``: a request that names two services, or two methods, is refused."""
        wire = _STRICT if strict else _TRUSTING
        super().__init__(wire, role, limits, reverse=True, goaway_known=False)
