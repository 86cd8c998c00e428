"""The plugin ``bolt``: SOFA Bolt, versions 1 and 2 on one connection."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from xproxy.codecs.api import NO, YES, Codec, Hint, Verdict
from xproxy.codecs.bolt.codec import BoltCodec
from xproxy.codecs.bolt.status import from_native, to_native
from xproxy.codecs.bolt.wire import NAME
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(sharing=Sharing.MESSAGES, oneway=True, reverse=True, rank=30)

EXAMPLES: Final = (
    bytes.fromhex("01 01 0001 01 0000000A 01 00000BB8 0003 0000 00000001 616263 4E"),
    bytes.fromhex("02 01 01 0001 01 0000000A 01 00 00000BB8 0003 0000 00000001 616263 4E"),
    bytes.fromhex("01 01 0000 01 00000001 01 00000000 0000 0000 00000000"),
)
"""A request of either version, a heartbeat."""

_TYPES: Final = frozenset((0, 1, 2))
_COMMANDS: Final = frozenset((0, 1, 2, 100))
_LARGEST_CONTENT: Final = 1 << 28
"""No first message is that large; framed Thrift, whose length begins with 01 or 02, mostly seems to be."""


def detect(prefix: bytes) -> Verdict:
    """Judge by the whole fixed head: its first byte alone, a small number, is weak evidence."""
    size = len(prefix)
    if size < 1:
        return Verdict.more(1)
    version = prefix[0]
    if version not in (1, 2):
        return NO
    at = 1  # of the type
    if version == 2:
        if size < 2:
            return Verdict.more(2)
        if prefix[1] not in (1, 2):
            return NO
        at = 2
    if size <= at:
        return Verdict.more(at + 1)
    if prefix[at] not in _TYPES:
        return NO
    if size < at + 3:
        return Verdict.more(at + 3)
    if int.from_bytes(prefix[at + 1 : at + 3]) not in _COMMANDS:
        return NO
    # Version 2 has ver1 and a switch more; an answer's status is two bytes shorter than a timeout.
    whole = (20 if prefix[at] == 0 else 22) + 2 * (version - 1)
    if size < whole:
        return Verdict.more(whole)
    return YES if int.from_bytes(prefix[whole - 4 : whole]) < _LARGEST_CONTENT else NO


@attrs.frozen
class BoltPlugin:
    """SOFA Bolt, versions 1 and 2 on one connection."""

    name: ClassVar[str] = NAME
    traits: ClassVar[Traits] = TRAITS
    examples: ClassVar[tuple[bytes, ...]] = EXAMPLES

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return detect(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        return BoltCodec(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        codec = BoltCodec(role, limits)
        codec.load(state)
        return codec

    def code_of(self, head: ResponseHead, request: RequestHead | None = None) -> int:
        """See SupportsLocalReply."""
        extra = head.extra
        return to_native(head.status, extra.reason if isinstance(extra, Local) else Reason.NONE)

    def status_of(self, native_status: int) -> Status:
        return from_native(native_status)


PLUGIN: Final = BoltPlugin()
