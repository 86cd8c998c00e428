"""The plugin ``bolt``: SOFA Bolt, versions 1 and 2 on one connection."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from xproxy.codecs.api import NO, YES, Hint, Verdict
from xproxy.codecs.bolt.codec import BoltCodec
from xproxy.codecs.bolt.status import STATUSES
from xproxy.codecs.bolt.wire import NAME
from xproxy.codecs.message_plugin import MessagePlugin
from xproxy.codecs.status_table import StatusTable
from xproxy.model.limits import Limits
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(sharing=Sharing.MESSAGES, oneway=True, reverse=True, rank=30)

EXAMPLES: Final = (
    bytes.fromhex("01 01 0001 01 0000000A 01 00000BB8 0003 0000 00000001 616263 4E"),
    bytes.fromhex("02 01 01 0001 01 0000000A 01 00 00000BB8 0003 0000 00000001 616263 4E"),
    bytes.fromhex("01 01 0000 01 00000001 01 00000000 0000 0000 00000000"),
)
"""A request of either version, a heartbeat."""

# Type and command: a connection begins with a request, a heartbeat, or the goaway of MOSN's.
_REQUEST: Final = b"\x01\x00\x01"
_ONEWAY: Final = b"\x02\x00\x01"
_EMPTY: Final = (b"\x01\x00\x00", b"\x01\x00\x64")
_FIRST: Final = (_REQUEST, _ONEWAY, *_EMPTY)
_LARGEST_CONTENT: Final = 1 << 28
"""No first message is that large; framed Thrift, whose length begins with 01 or 02, mostly seems to be."""


def detect(prefix: bytes) -> Verdict:
    """Judge by the whole fixed head: single small numbers, which many protocols begin with, are weak evidence.

    FastCGI differs in ``ver2``, an OP_MSG of MongoDB of 257 bytes in what a heartbeat cannot have: lengths.
    """
    size = len(prefix)
    if size < 1:
        return Verdict.more(1)
    version = prefix[0]
    if version not in (1, 2):
        return NO
    at = version  # of the type; version 2 has ver1 before it
    if version == 2 and size > 1 and prefix[1] not in (1, 2):
        return NO
    word = prefix[at : at + 3]
    if not any(first.startswith(word) for first in _FIRST) or prefix[at + 3 : at + 4] not in (
        b"",
        b"\x01",
    ):
        return NO
    whole = 22 if version == 1 else 24
    if size < whole:
        return Verdict.more(size + 1, faint=size < at + 4)
    if word in _EMPTY:
        return YES if not any(prefix[whole - 8 : whole]) else NO
    return YES if int.from_bytes(prefix[whole - 4 : whole]) < _LARGEST_CONTENT else NO


@attrs.frozen
class BoltPlugin(MessagePlugin):
    """SOFA Bolt, versions 1 and 2 on one connection."""

    name: ClassVar[str] = NAME
    traits: ClassVar[Traits] = TRAITS
    examples: ClassVar[tuple[bytes, ...]] = EXAMPLES
    statuses: ClassVar[StatusTable] = STATUSES

    strict_target: bool = True
    """Refuse requests whose content calls another service or method than the header, or whose header names two."""

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return detect(prefix)

    def codec(self, role: Role, limits: Limits) -> BoltCodec:
        return BoltCodec(role, limits, strict=self.strict_target)


PLUGIN: Final = BoltPlugin()
