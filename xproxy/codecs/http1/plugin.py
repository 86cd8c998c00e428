"""The HTTP/1.1 plugin: detection, and codecs that share one memory of heads."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import NO, NOT_AN_OPTION, YES, Codec, Hint, Verdict
from xproxy.codecs.grpc.call import NATIVE, WEB
from xproxy.codecs.grpc.reply import HTTP_CODE
from xproxy.codecs.http1.client import ClientCodec
from xproxy.codecs.http1.first_line import judge
from xproxy.codecs.http1.memory import HeadMemory
from xproxy.codecs.http1.server import ServerCodec
from xproxy.codecs.http1.snapshot import SCHEMA, unpack
from xproxy.codecs.http1.status import local_code, status_of
from xproxy.codecs.http_status import local_text
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import WEB_FAMILY, Role, Sharing, Traits


@attrs.frozen(eq=False)
class Http1Plugin:
    """HTTP/1.0 and 1.1 (RFC 9110, 9112)."""

    name: str = "http1"
    traits: Traits = attrs.field(
        default=Traits(
            sharing=Sharing.SERIAL,
            family=WEB_FAMILY,
            dialects=(NATIVE, WEB),
            trailers=True,
            interim=True,
            alpn=("http/1.1",),
            rank=60,
        )
    )
    memory: HeadMemory = attrs.field(factory=HeadMemory, repr=False, metadata=NOT_AN_OPTION)
    """Shared by all connections of this plugin."""

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Say YES after a whole request line; see ``first_line.py``."""
        if hint.alpn is not None:
            return YES if hint.alpn in self.traits.alpn else NO
        return judge(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        """Start a connection's state."""
        if role is Role.SERVER:
            return ServerCodec(limits, self.memory)
        return ClientCodec(limits, self.memory)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue as the codec that wrote ``state`` would. Raises ValueError."""
        snapshot = unpack(state, role, limits)
        codec = (
            ServerCodec(limits, self.memory)
            if role is Role.SERVER
            else ClientCodec(limits, self.memory)
        )
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


PLUGIN: Final = Http1Plugin()
