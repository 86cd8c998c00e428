"""The kinds of load, each with how its connections are opened and what is said on them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from bench.certificate import NAME
from bench.lab import BODY_BYTES, RPC_PAYLOAD_BYTES
from bench.takeover.speakers.echo import Echo
from bench.takeover.speakers.grpc import GrpcStream, GrpcUnary
from bench.takeover.speakers.http1 import Http1
from bench.takeover.speakers.http2 import Http2
from bench.takeover.speakers.messages import Messages, Named
from bench.takeover.speakers.speaker import Speaker
from bench.takeover.speakers.websocket import WebSocket

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of connection."""

    title: str
    speaker: Callable[[int], Speaker]
    """Makes what a connection says, given the number of the connection."""
    tls: str = ""
    """The version of TLS, or none."""
    alpn: str = ""
    listener: str = "edge"
    """Which of the proxy's listeners it goes to."""

    def context(self, authority: Path) -> ssl.SSLContext | None:
        """Return what TLS is begun with, if it is."""
        if not self.tls:
            return None
        made = ssl.create_default_context(cafile=str(authority))
        # The certificate is its own authority, which Python 3.13 takes only without this.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        made.minimum_version = made.maximum_version = _VERSIONS[self.tls]
        if self.alpn:
            made.set_alpn_protocols([self.alpn])
        return made


def _messages(protocol: Named) -> Callable[[int], Speaker]:
    return lambda connection: Messages(connection, protocol, RPC_PAYLOAD_BYTES)


def _http1(connection: int) -> Speaker:
    return Http1(connection, BODY_BYTES)


def _http2(connection: int) -> Speaker:
    return Http2(connection, BODY_BYTES)


KINDS: Mapping[str, Kind] = {
    "http1": Kind(title="HTTP/1.1", speaker=_http1),
    "http2": Kind(title="HTTP/2", speaker=_http2),
    "grpc": Kind(title="gRPC, unary", speaker=GrpcUnary),
    "grpc-stream": Kind(title="gRPC, one stream a connection", speaker=GrpcStream),
    "websocket": Kind(title="WebSocket echo", speaker=WebSocket),
    "l4": Kind(title="L4 echo", speaker=Echo, listener="l4"),
    "bolt": Kind(title="Bolt", speaker=_messages("bolt")),
    "dubbo": Kind(title="Dubbo", speaker=_messages("dubbo")),
    "thrift": Kind(title="Thrift", speaker=_messages("thrift")),
    "tls-http1": Kind(title="HTTP/1.1, TLS 1.3", speaker=_http1, tls="1.3", alpn="http/1.1"),
    "tls-http2": Kind(title="HTTP/2, TLS 1.3", speaker=_http2, tls="1.3", alpn="h2"),
    "tls-bolt": Kind(title="Bolt, TLS 1.3", speaker=_messages("bolt"), tls="1.3"),
    "tls12-http1": Kind(title="HTTP/1.1, TLS 1.2", speaker=_http1, tls="1.2", alpn="http/1.1"),
}
SERVER_NAME = NAME
