"""Health: answer gRPC's health service here, for load balancers and orchestrators in front of the proxy."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.grpc.framing import COMPRESSED, MessageReader, NotMessages, frame
from xproxy.codecs.grpc.health import (
    CHECK,
    SERVICE,
    NotHealth,
    Serving,
    decode_request,
    encode_response,
)
from xproxy.codecs.grpc.status import STATUS
from xproxy.model.errors import StreamError, Unsupported
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody, read_whole
from xproxy.stream.exchange import Handler, Request, Response, local_response

_MOST_REQUEST_BYTES: Final = 1024
_TRAILERS: Final = Trailers(0, Headers(((STATUS, "0"),)), Status.OK)


class NotAQuestion(StreamError):
    """The request is no HealthCheckRequest."""

    status = Status.INVALID_ARGUMENT


@attrs.frozen(kw_only=True)
class GrpcHealth:
    """Answer ``grpc.health.v1.Health/Check`` here; every other request passes.

    ``SERVING`` as long as the listener takes requests, ``NOT_SERVING`` while it drains. A service that is not in
    ``services`` is not found. ``Watch`` is not implemented: clients then take a service for healthy.
    """

    services: tuple[str, ...] = ()
    """Names that are answered for, besides the empty one, which means the proxy itself."""

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises Unsupported for other methods of the service, NotAQuestion or BodyTooLarge for what is no check."""
        rpc = request.head.rpc
        if rpc is None or rpc.service != SERVICE:
            return await call_next(request)
        if rpc.method != CHECK:
            raise Unsupported(f"{SERVICE}/{rpc.method} is not implemented here")
        service = _asked((await read_whole(request.body, _MOST_REQUEST_BYTES)).data)
        request.record.local = True
        request.record.detail = "grpc_health"
        if service and service not in self.services:
            unknown = Local(detail="unknown service")
            return local_response(ResponseHead(status=Status.NOT_FOUND, extra=unknown))
        downstream = request.connection.downstream
        draining = downstream is not None and downstream.draining
        serving = Serving.NOT_SERVING if draining else Serving.SERVING
        head = ResponseHead(
            status=Status.OK,
            native_status=200,
            headers=Headers((("content-type", f"application/{rpc.dialect}"),)),
        )
        return Response(head, BytesBody(frame(encode_response(serving)), _TRAILERS))


def _asked(body: bytes) -> str:
    """Return the service that is asked about."""
    reader = MessageReader(_MOST_REQUEST_BYTES)
    try:
        messages = reader.feed(body)
        reader.finish()
        if len(messages) != 1 or messages[0][0] & COMPRESSED:
            raise NotAQuestion("a health check has one message, not compressed")
        return decode_request(messages[0][1])
    except (NotMessages, NotHealth) as exc:
        raise NotAQuestion(f"not a health check: {exc}") from exc
