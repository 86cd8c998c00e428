"""Body limit: how long a body may be, whether it says so beforehand or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import attrs
from attrs.validators import ge, optional

from xproxy.model.errors import BodyTooLarge, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Size
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.wrapped import WrappedBody

_LENGTH_DIGITS: Final = 19


@attrs.frozen(kw_only=True)
class BodyLimit:
    """Refuse bodies above a size: at once where the size is known, else in the middle."""

    request: Size | None = attrs.field(default=None, validator=optional(ge(Size(0))))
    """Most bytes of a request body. The client is told that its message is too large."""
    response: Size | None = attrs.field(default=None, validator=optional(ge(Size(0))))
    """Most bytes of a response body. The client gets an internal error, or a broken message if it had begun."""

    def __attrs_post_init__(self) -> None:
        if self.request is None and self.response is None:
            raise ValueError("needs a limit for request or response")

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises BodyTooLarge for requests, StreamError for responses."""
        # What goes through a tunnel is no body, however long it is.
        if self.request is not None and not request.head.tunnel:
            request.body = _limited(
                request.body, request.head.headers, self.request, _request_too_large
            )
        response = await call_next(request)
        if self.response is not None and not request.head.grants(response.head):
            # The answer to a HEAD says how long the body would be that it does not have.
            headers = response.head.headers if request.head.method != "HEAD" else Headers()
            try:
                response.body = _limited(response.body, headers, self.response, _response_too_large)
            except StreamError:
                await response.aclose()
                raise
        return response


def _request_too_large(size: str, limit: int) -> StreamError:
    return BodyTooLarge(f"request body is {size}, limit {limit} bytes (body_limit.request)")


def _response_too_large(size: str, limit: int) -> StreamError:
    # Not BodyTooLarge, which blames the client.
    return StreamError(f"response body is {size}, limit {limit} bytes (body_limit.response)")


def _limited(
    body: Body, headers: Headers, limit: int, error: Callable[[str, int], StreamError]
) -> Body:
    if isinstance(body, BytesBody):
        if len(body.data) > limit:
            raise error(f"{len(body.data)} bytes", limit)
        return body
    declared = headers.get("content-length") or ""
    is_number = declared.isascii() and declared.isdigit() and len(declared) <= _LENGTH_DIGITS
    if is_number and int(declared) > limit:
        raise error(f"{declared} bytes", limit)
    return LimitedBody(body, limit, error)


@final
class LimitedBody(WrappedBody):
    """A body that breaks off when it grows above its limit."""

    __slots__ = ("_error", "_left", "_limit")

    def __init__(self, inner: Body, limit: int, error: Callable[[str, int], StreamError]) -> None:
        super().__init__(inner)
        self._limit = self._left = limit
        self._error = error

    def piece(self, piece: bytes | Trailers) -> bytes | Trailers:
        """See WrappedBody. Raises the error that it was made with."""
        if not isinstance(piece, Trailers):
            self._left -= len(piece)
            if self._left < 0:
                raise self._error("longer", self._limit)
        return piece
