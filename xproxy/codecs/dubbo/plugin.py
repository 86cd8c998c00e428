"""The plugin ``dubbo``: Dubbo 2."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from xproxy.codecs.api import NO, YES, Codec, Hint, Verdict
from xproxy.codecs.dubbo.codec import DubboCodec
from xproxy.codecs.dubbo.status import from_native, to_native
from xproxy.codecs.dubbo.wire import MAGIC, NAME
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(sharing=Sharing.MESSAGES, oneway=True, reverse=True, rank=35)

EXAMPLES: Final = (
    bytes.fromhex("DABB C2 00 0000000000000001 00000013") + b"\x052.0.2\x04demo\x00\x03add\x00HZ",
    bytes.fromhex("DABB E2 00 0000000000000000 00000001 4E"),
)
"""A request, a heartbeat."""

_REQUEST: Final = 0x80
_SERIALIZATION: Final = 0x1F
_SERIALIZATIONS: Final = frozenset((2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 16, 21, 22, 23))
"""Those that Dubbo knows (Dubbo: serialize.Constants)."""


def detect(prefix: bytes) -> Verdict:
    """Judge by the magic number and the flags: a connection begins with a request."""
    if not MAGIC.startswith(prefix[:2]):
        return NO
    if len(prefix) < 3:
        return Verdict.more(len(prefix) + 1)
    flag = prefix[2]
    return YES if flag & _REQUEST and flag & _SERIALIZATION in _SERIALIZATIONS else NO


@attrs.frozen
class DubboPlugin:
    """Dubbo 2, with bodies in hessian2; other serialisations are passed on."""

    name: ClassVar[str] = NAME
    traits: ClassVar[Traits] = TRAITS
    examples: ClassVar[tuple[bytes, ...]] = EXAMPLES

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return detect(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        return DubboCodec(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        codec = DubboCodec(role, limits)
        codec.load(state)
        return codec

    def code_of(self, head: ResponseHead, request: RequestHead | None = None) -> int:
        """See SupportsLocalReply."""
        extra = head.extra
        return to_native(head.status, extra.reason if isinstance(extra, Local) else Reason.NONE)

    def status_of(self, native_status: int) -> Status:
        return from_native(native_status)


PLUGIN: Final = DubboPlugin()
