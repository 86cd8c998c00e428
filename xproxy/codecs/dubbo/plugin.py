"""The plugin ``dubbo``: Dubbo 2."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from xproxy.codecs.api import NO, YES, Hint, Verdict
from xproxy.codecs.dubbo.codec import DubboCodec
from xproxy.codecs.dubbo.status import STATUSES
from xproxy.codecs.dubbo.wire import HEAD_BYTES, LONGEST_EVENT, MAGIC, NAME
from xproxy.codecs.message_plugin import MessagePlugin
from xproxy.codecs.status_table import StatusTable
from xproxy.model.limits import Limits
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(sharing=Sharing.MESSAGES, oneway=True, reverse=True, rank=35)

EXAMPLES: Final = (
    bytes.fromhex("DABB C2 00 0000000000000001 00000013") + b"\x052.0.2\x04demo\x00\x03add\x00HZ",
    bytes.fromhex("DABB E2 00 0000000000000000 00000001 4E"),
)
"""A request, a heartbeat."""

_REQUEST: Final = 0x80
_EVENT: Final = 0x20
_SERIALIZATION: Final = 0x1F
_LONGEST_BODY: Final = 0x7FFF_FFFF


def detect(prefix: bytes) -> Verdict:
    """Judge by the head: a connection begins with a request, in whatever serialisation.

    Their ids are a list that grows (Dubbo: serialize.Constants; 25, 27 and 31 came late), so any but 0 will do.
    """
    size = len(prefix)
    if not MAGIC.startswith(prefix[:2]):
        return NO
    if size > 2:
        flag = prefix[2]
        if not flag & _REQUEST or not flag & _SERIALIZATION:
            return NO
    if size < HEAD_BYTES:
        return Verdict.more(size + 1, faint=size < len(MAGIC))
    longest = LONGEST_EVENT if prefix[2] & _EVENT else _LONGEST_BODY
    return YES if int.from_bytes(prefix[12:16]) <= longest else NO


@attrs.frozen
class DubboPlugin(MessagePlugin):
    """Dubbo 2, with bodies in hessian2; other serialisations are passed on."""

    name: ClassVar[str] = NAME
    traits: ClassVar[Traits] = TRAITS
    examples: ClassVar[tuple[bytes, ...]] = EXAMPLES
    statuses: ClassVar[StatusTable] = STATUSES

    strict_target: bool = True
    """Refuse requests whose attachments path, interface or version name another service than what routes see."""
    unread_serializations: bool = True
    """Pass on requests in serialisations of which nothing is read, such as kryo: routes see no service of them."""

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return detect(prefix)

    def codec(self, role: Role, limits: Limits) -> DubboCodec:
        return DubboCodec(
            role, limits, strict=self.strict_target, unread=self.unread_serializations
        )


PLUGIN: Final = DubboPlugin()
