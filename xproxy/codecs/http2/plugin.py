"""The HTTP/2 plugin: detection, and codecs that share one memory of header blocks."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import NO, YES, Codec, Hint, Verdict
from xproxy.codecs.grpc.call import NATIVE, WEB
from xproxy.codecs.grpc.reply import HTTP_CODE
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.memory import Memories
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.snapshot import SCHEMA, unpack
from xproxy.codecs.http2.status import local_code, status_of
from xproxy.codecs.http2.wire import PREFACE
from xproxy.codecs.http_status import local_text
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import WEB_FAMILY, Role, Sharing, Traits

PING_PAUSE: Final = 310.0
"""Seconds. gRPC's servers end a connection for the third PING that comes within 5 minutes of the one before, if they
have sent no message since (``too_many_pings``, gRPC proposal A8); and 10 more, as PINGs are late at times."""


@attrs.frozen(eq=False, kw_only=True)
class Http2Plugin(Http2Limits):
    """HTTP/2 (RFC 9113), by prior knowledge or ALPN. An offer to upgrade from HTTP/1.1 is not taken (§3.1)."""

    name: str = "http2"
    traits: Traits = Traits(
        sharing=Sharing.FRAMES,
        family=WEB_FAMILY,
        dialects=(NATIVE, WEB),
        calls=(NATIVE,),
        trailers=True,
        interim=True,
        alpn=("h2",),
        rank=20,
        heartbeat_pause=PING_PAUSE,
    )
    _memories: Memories = attrs.field(
        default=attrs.Factory(Memories, takes_self=True), repr=False, init=False
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
            return ServerCodec(limits, self, memory)
        return ClientCodec(limits, self, memory)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue as the codec that wrote ``state`` would. Raises ValueError."""
        snapshot = unpack(state, role, limits, self)
        codec = self._open(role, limits)
        codec.resume(snapshot)
        return codec

    @property
    def state_versions(self) -> tuple[int, ...]:
        """See SupportsStateVersions."""
        return SCHEMA.versions

    def code_of(self, head: ResponseHead, request: RequestHead | None = None) -> int:
        """See SupportsLocalReply."""
        called = request is not None and request.rpc is not None
        return HTTP_CODE if called else local_code(head)

    def text_of(self, head: ResponseHead, request: RequestHead | None = None) -> bytes:
        """See SupportsLocalText."""
        return local_text(head, request)

    def status_of(self, native_status: int) -> Status:
        """Return the neutral status of an HTTP status code. Total."""
        return status_of(native_status)


PLUGIN: Final = Http2Plugin()
