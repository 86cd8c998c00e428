"""Bridge: clients of HTTP/1.1 that cannot read trailers make unary calls of gRPC.

(idea: envoy:source/extensions/filters/http/grpc_http1_bridge)
"""

from __future__ import annotations

from typing import Final

import attrs
from attrs.validators import ge

from xproxy.codecs.grpc.answer import is_native
from xproxy.codecs.grpc.call import NATIVE
from xproxy.codecs.grpc.reply import reply
from xproxy.codecs.grpc.status import STATUS, http_code_of, status_of_http
from xproxy.filters.grpc_web import FROM_WEB
from xproxy.model.errors import BodyTooLarge, StreamError
from xproxy.model.headers import Headers
from xproxy.model.limits import MIB, Size
from xproxy.model.message import Local, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody, read_whole
from xproxy.stream.exchange import Handler, Request, Response, error_head, local_response

_LENGTH: Final = frozenset({"content-length", "trailer"})


@attrs.frozen(kw_only=True)
class GrpcHttp1Bridge:
    """Answer calls that come over HTTP/1.1 as a plain response: status, headers, body.

    The client posts ``application/grpc`` with one message, prefix and all. The whole answer is awaited; then
    ``grpc-status``, ``grpc-message`` and the other trailers are headers, and the HTTP status is the one that fits the
    outcome (200 only for success), for clients that look at nothing else. Calls over HTTP/2 pass as they are.
    """

    max_response_bytes: Size = attrs.field(default=Size(4 * MIB), validator=ge(Size(0)))
    """The whole answer; a longer one fails as exhausted."""

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises nothing of its own: whatever fails becomes an answer that says so in the same way."""
        rpc = request.head.rpc
        if rpc is None or rpc.dialect != NATIVE or not _old(request):
            return await call_next(request)
        request.head = _with_te(request.head)
        try:
            response = await call_next(request)
        except StreamError as error:
            return _failed(request, error)
        try:
            if response.head.native_status is None:
                return _plain(reply(response.head, NATIVE))
            if not is_native(response.head):
                code = response.head.native_status
                detail = f"the upstream answered with HTTP {code}, not with gRPC"
                local = ResponseHead(status=status_of_http(code), extra=Local(detail=detail))
                return _plain(reply(local, NATIVE))
            body = await read_whole(response.body, self.max_response_bytes, request.stream.hold)
        except BodyTooLarge as error:
            return _failed(request, BodyTooLarge(f"{error.detail} (grpc_http1_bridge)"))
        except StreamError as error:
            return _failed(request, error)
        finally:
            await response.aclose()
        return _whole(response.head, body)


def _old(request: Request) -> bool:
    """Tell whether the client can read no trailers, and no last piece of a body that holds them either."""
    return request.head.extra.version.startswith("1.") and not request.metadata.get(FROM_WEB)


def _with_te(head: RequestHead) -> RequestHead:
    return head if "te" in head.headers else head.adding((("te", "trailers"),))


def _failed(request: Request, error: StreamError) -> Response:
    # As the driver would note it, which learns nothing of an error that was answered here.
    request.record.flag(error.flag)
    request.record.detail = error.detail
    request.record.local = True
    return _plain(reply(error_head(error), NATIVE))


def _plain(head: ResponseHead) -> Response:
    """Return the answer of a call that came to nothing."""
    return local_response(attrs.evolve(head, native_status=http_code_of(head.status)))


def _whole(head: ResponseHead, body: BytesBody) -> Response:
    """Return an answer whose trailers are headers."""
    trailers = body.trailers
    fields = [pair for pair in head.headers.pairs if pair[0].lower() not in _LENGTH]
    status = head.status
    if trailers is not None:
        fields.extend(trailers.headers.pairs)
        status = trailers.status or status
    if not any(name.lower() == STATUS for name, _ in fields):
        # Without an outcome nobody can tell that the answer is whole.
        status = Status.UNKNOWN
        fields.append((STATUS, str(status.value)))
    code = http_code_of(status)
    answered = ResponseHead(status=status, native_status=code, headers=Headers(fields))
    return local_response(answered, body.data)
