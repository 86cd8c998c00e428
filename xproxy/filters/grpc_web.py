"""gRPC-Web: calls of browsers, made into calls of gRPC (grpc/doc/PROTOCOL-WEB.md).

The messages of both are framed alike. What differs: trailers, which browsers cannot read, are the last piece of the
body; and the text variant is base64 throughout. Both are changed as they pass: nothing waits for the end of a body.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from xproxy.codecs.grpc.answer import is_native
from xproxy.codecs.grpc.call import NATIVE, WEB, content_type, content_type_of, is_text
from xproxy.codecs.grpc.framing import NotMessages
from xproxy.codecs.grpc.status import status_of_http
from xproxy.codecs.grpc.web import TextReader, encode_piece, trailer_frame
from xproxy.codecs.memo import HeadMemo
from xproxy.model.errors import RequestBroken
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import Local, RequestHead, ResponseHead, Rpc, recurring
from xproxy.model.metadata import Key
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.ending import BodyEnding, Complete
from xproxy.stream.exchange import Handler, Request, Response, local_response
from xproxy.stream.wrapped import WrappedBody

FROM_WEB: Final[Key[bool]] = Key("xproxy.grpc_web")
"""The request came as gRPC-Web: its client reads trailers out of the body."""
_CHANGED: Final = frozenset({"content-type", "content-length", "te"})


def _memo() -> HeadMemo[RequestHead]:
    return HeadMemo()


@attrs.frozen(kw_only=True)
class GrpcWeb:
    """Let browsers call gRPC services: requests with a content type of gRPC-Web, binary or text, become gRPC.

    Put it among the listener's filters: routes then see gRPC. Every other request passes as it is. The call may
    stream its answer; that browsers cannot stream requests is their own limit. Cross-origin rules are not this
    filter's.
    """

    _heads: HeadMemo[RequestHead] = attrs.field(factory=_memo, init=False, eq=False, repr=False)

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises RequestBroken through the body if a text body is not base64."""
        rpc = request.head.rpc
        if rpc is None or rpc.dialect != WEB:
            return await call_next(request)
        given = content_type_of(request.head.headers.pairs)
        text = is_text(given)
        head = request.head
        request.head = self._heads.get(head) or self._heads.put(head, _native(head, rpc, given))
        request.origin = None
        request.note(FROM_WEB, True)
        if text:
            request.body = _decoded(request.body)
        response = await call_next(request)
        if response.head.native_status is None:
            return response  # made here: the codec says it as the client understands it
        if not is_native(response.head):
            return await _foreign(response)
        response.origin = None
        response.head = _web(response.head, given)
        response.body = WebBody(request, response.body, text=text)
        return response


def _native(head: RequestHead, rpc: Rpc, given: str) -> RequestHead:
    fields = [pair for pair in head.headers.pairs if pair[0].lower() not in _CHANGED]
    fields += (("content-type", content_type(given, NATIVE)), ("te", "trailers"))
    target = attrs.evolve(head.extra, rpc=attrs.evolve(rpc, dialect=NATIVE))
    native = attrs.evolve(head, headers=Headers(fields), extra=target)
    return recurring(native) if head.recurs else native


def _web(head: ResponseHead, given: str) -> ResponseHead:
    kind = "grpc-web-text" if is_text(given) else "grpc-web"
    fields = [pair for pair in head.headers.pairs if pair[0].lower() not in _CHANGED]
    # The upstream says which message format it answers in.
    answered = content_type(content_type_of(head.headers.pairs), kind)
    fields.append(("content-type", answered))
    return attrs.evolve(head, headers=Headers(fields))


async def _foreign(response: Response) -> Response:
    """Make an answer that is not gRPC's own into one: a browser's library could not read it."""
    await response.aclose()
    code = response.head.native_status or 0
    detail = f"the upstream answered with HTTP {code}, not with gRPC"
    return local_response(ResponseHead(status=status_of_http(code), extra=Local(detail=detail)))


def _decoded(body: Body) -> Body:
    if not isinstance(body, BytesBody):
        return TextBody(body)
    reader = TextReader()
    try:
        data = reader.feed(body.data)
        reader.finish()
    except NotMessages as exc:
        raise RequestBroken(str(exc)) from exc
    return BytesBody(data)


@final
class TextBody(WrappedBody):
    """A base64 request body, decoded as it comes. Raises RequestBroken for what is not base64."""

    __slots__ = ("_reader",)

    def __init__(self, inner: Body) -> None:
        super().__init__(inner)
        self._reader = TextReader()

    def piece(self, piece: bytes | Trailers) -> bytes:
        """See WrappedBody."""
        if isinstance(piece, Trailers):
            return b""  # a browser has none
        try:
            return self._reader.feed(piece)
        except NotMessages as exc:
            raise RequestBroken(str(exc)) from exc

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody."""
        if isinstance(how, Complete):
            try:
                self._reader.finish()
            except NotMessages as exc:
                raise RequestBroken(str(exc)) from exc


@final
class WebBody(WrappedBody):
    """A response body whose trailers are its last piece."""

    __slots__ = ("_request", "_text")

    def __init__(self, request: Request, inner: Body, *, text: bool) -> None:
        super().__init__(inner)
        self._request = request
        self._text = text

    def piece(self, piece: bytes | Trailers) -> bytes:
        """See WrappedBody."""
        if isinstance(piece, Trailers):
            self._request.record.outcome = piece.status
            piece = trailer_frame(piece.headers)
        return encode_piece(piece) if self._text else piece
