"""Body limit: how long a body may be, whether it says so beforehand or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, final

import attrs
from attrs.validators import ge, optional

from xproxy.model.errors import BodyTooLarge, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Size
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.links import Note, Plain, note_of
from xproxy.stream.wrapped import WrappedBody

_LENGTH_DIGITS: Final = 19


@attrs.frozen(kw_only=True)
class BodyLimit:
    """Refuse bodies above a size: at once where the size is known, else in the middle."""

    request: Size | None = attrs.field(default=None, validator=optional(ge(Size(0))))
    """Most bytes of a request body. The client is told that its message is too large."""
    response: Size | None = attrs.field(default=None, validator=optional(ge(Size(0))))
    """Most bytes of a response body. The client gets an internal error, or a broken message if it had begun."""

    def relink(self, request: Request, response: Response, fields: tuple[Plain, ...]) -> None:
        """See SupportsRelink: with the limit that it had."""
        match fields:
            case (str() as what, int() as limit, int() as left) if (
                what in _ERRORS and 0 <= left <= limit
            ):
                whose = request if what == _REQUEST else response
                body = LimitedBody(whose.body, limit, what)
                body.left = left
                whose.body = body
            case _:
                raise ValueError("no limit of a body")

    def __attrs_post_init__(self) -> None:
        if self.request is None and self.response is None:
            raise ValueError("needs a limit for request or response")

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises BodyTooLarge for requests, StreamError for responses."""
        # What goes through a tunnel is no body, however long it is.
        if self.request is not None and not request.head.tunnel:
            request.body = _limited(request.body, request.head.headers, self.request, _REQUEST)
        response = await call_next(request)
        if self.response is not None and not request.head.grants(response.head):
            # The answer to a HEAD says how long the body would be that it does not have.
            headers = response.head.headers if request.head.method != "HEAD" else Headers()
            try:
                response.body = _limited(response.body, headers, self.response, _RESPONSE)
            except StreamError:
                await response.aclose()
                raise
        return response


def _request_too_large(size: str, limit: int) -> StreamError:
    return BodyTooLarge(f"request body is {size}, limit {limit} bytes (body_limit.request)")


def _response_too_large(size: str, limit: int) -> StreamError:
    # Not BodyTooLarge, which blames the client.
    return StreamError(f"response body is {size}, limit {limit} bytes (body_limit.response)")


_REQUEST: Final = "request"
_RESPONSE: Final = "response"
_ERRORS: Final[Mapping[str, Callable[[str, int], StreamError]]] = {
    _REQUEST: _request_too_large,
    _RESPONSE: _response_too_large,
}


def _limited(body: Body, headers: Headers, limit: int, what: str) -> Body:
    error = _ERRORS[what]
    if isinstance(body, BytesBody):
        if len(body.data) > limit:
            raise error(f"{len(body.data)} bytes", limit)
        return body
    declared = headers.get("content-length") or ""
    is_number = declared.isascii() and declared.isdigit() and len(declared) <= _LENGTH_DIGITS
    if is_number and int(declared) > limit:
        raise error(f"{declared} bytes", limit)
    return LimitedBody(body, limit, what)


@final
class LimitedBody(WrappedBody):
    """A body that breaks off when it grows above its limit."""

    __slots__ = ("_limit", "_what", "left")

    def __init__(self, inner: Body, limit: int, what: str) -> None:
        """``what``: whose body it is, ``request`` or ``response``."""
        super().__init__(inner)
        self._limit = self.left = limit
        self._what = what

    def piece(self, piece: bytes | Trailers) -> bytes | Trailers:
        """See WrappedBody. Raises the error of its kind."""
        if not isinstance(piece, Trailers):
            self.left -= len(piece)
            if self.left < 0:
                raise _ERRORS[self._what]("longer", self._limit)
        return piece

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote."""
        return self.inner, note_of(BodyLimit, self._what, self._limit, self.left)
