"""The HTTP/2 plugin: detection, and codecs that share one memory of header blocks."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import NO, YES, Codec, Hint, Verdict
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS, Http2Limits
from xproxy.codecs.http2.memory import Memories
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.snapshot import unpack
from xproxy.codecs.http2.status import local_code, status_of
from xproxy.codecs.http2.wire import PREFACE
from xproxy.model.limits import Limits
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits


@attrs.frozen(eq=False)
class Http2Plugin:
    """HTTP/2 (RFC 9113), by prior knowledge or ALPN. An offer to upgrade from HTTP/1.1 is not taken (§3.1)."""

    name: str = "http2"
    traits: Traits = attrs.field(
        default=Traits(
            sharing=Sharing.FRAMES,
            family="http",
            trailers=True,
            interim=True,
            alpn=("h2",),
            rank=20,
        )
    )
    limits: Http2Limits = DEFAULT_HTTP2_LIMITS
    """Windows, tables, and what is tolerated."""
    _memories: Memories = attrs.field(
        default=attrs.Factory(lambda self: Memories(self.limits), takes_self=True),
        repr=False,
        init=False,
    )

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Look for the preface, all 24 bytes of it."""
        if hint.alpn is not None:
            return YES if hint.alpn in self.traits.alpn else NO
        if not PREFACE.startswith(prefix[: len(PREFACE)]):
            return NO
        return YES if len(prefix) >= len(PREFACE) else Verdict.more(len(prefix) + 1)

    def open(self, role: Role, limits: Limits) -> Codec:
        """Start a connection's state."""
        return self._open(role, limits)

    def _open(self, role: Role, limits: Limits) -> ServerCodec | ClientCodec:
        memory = self._memories.get(limits)
        if role is Role.SERVER:
            return ServerCodec(limits, self.limits, memory)
        return ClientCodec(limits, self.limits, memory)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue as the codec that wrote ``state`` would. Raises ValueError."""
        snapshot = unpack(state, role, limits, self.limits)
        codec = self._open(role, limits)
        codec.resume(snapshot)
        return codec

    def code_of(self, head: ResponseHead) -> int:
        """See SupportsLocalReply."""
        return local_code(head)

    def status_of(self, native_status: int) -> Status:
        """Return the neutral status of an HTTP status code. Total."""
        return status_of(native_status)


PLUGIN: Final = Http2Plugin()
