"""Redirect: send web clients elsewhere (RFC 9110 §15.4)."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
from attrs.validators import ge, in_, le, optional

from xproxy.model.authority import DEFAULT_PORTS, split_port
from xproxy.model.errors import Unsupported
from xproxy.model.headers import Headers
from xproxy.model.message import ResponseHead, Target
from xproxy.model.status import Status
from xproxy.stream.exchange import Handler, Request, Response, local_response


def _printable(_: object, __: object, text: str | None) -> None:
    if text is not None and (not text.isascii() or not text.isprintable() or " " in text):
        raise ValueError(f"{text!r} cannot stand in a URL: write it percent-encoded")


def _absolute(_: object, __: object, text: str | None) -> None:
    _printable(None, None, text)
    if text is not None and not text.startswith("/"):
        raise ValueError(f"{text!r} must begin with /")


@attrs.frozen(kw_only=True)
class Redirect:
    """Answer web requests with another place to go to. Parts that are not given stay as they were asked for.

    RPC requests, CONNECT and ``OPTIONS *`` have nothing that could be redirected: they fail as unimplemented.
    """

    terminal: ClassVar[bool] = True
    """It answers: a route with it needs no cluster."""

    scheme: Literal["http", "https"] | None = None
    host: str | None = attrs.field(default=None, validator=_printable)
    """Host, with a port if need be."""
    port: int | None = attrs.field(default=None, validator=optional([ge(1), le(65535)]))
    """Replaces the port. With a new scheme and none of these, a port that was asked for is dropped."""
    path: str | None = attrs.field(default=None, validator=_absolute)
    """The whole path; a query in it replaces the one asked for."""
    prefix: str = attrs.field(default="/", validator=_absolute)
    """With ``prefix_rewrite``: the start of the path that is replaced."""
    prefix_rewrite: str | None = attrs.field(default=None, validator=_absolute)
    """Replaces ``prefix``; paths that do not begin with it stay as they are."""
    strip_query: bool = False
    """Leave the query away."""
    code: int = attrs.field(default=301, validator=in_((301, 302, 303, 307, 308)))
    """301 and 308: for ever; 302, 303 and 307: for now. 307 and 308 keep the method."""

    def __attrs_post_init__(self) -> None:
        if self.path is not None and self.prefix_rewrite is not None:
            raise ValueError("`path` and `prefix_rewrite` exclude each other")
        if self.prefix_rewrite is None and (self.scheme, self.host, self.port, self.path) == (
            None,
            None,
            None,
            None,
        ):
            raise ValueError(
                "needs scheme, host, port, path or prefix_rewrite: else it goes in circles"
            )

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Never calls on. Raises Unsupported for what cannot be redirected. Never blocks and is no checkpoint."""
        target = request.head.extra
        if not isinstance(target, Target) or not target.path.startswith("/"):
            raise Unsupported("only web requests with a path can be redirected")
        request.record.local = True
        request.record.detail = "redirect"
        location = self._origin(request, target) + self._path(target.path)
        headers = Headers((("location", location),))
        return local_response(
            ResponseHead(status=Status.OK, native_status=self.code, headers=headers)
        )

    def _origin(self, request: Request, target: Target) -> str:
        before = "https" if request.connection.tls else target.scheme
        scheme = self.scheme or before
        # A client of HTTP/1.0 need not say the host. The address it called is as good; a path alone would not be:
        # one that begins with // would lead to a host of the client's choice.
        local = request.connection.local
        authority = self.host or request.head.service or ("" if local.is_unix else str(local))
        if not authority:
            raise Unsupported("the request names no host to be redirected on")
        host, port = split_port(authority)
        if self.port is not None:
            port = str(self.port)
        elif self.host is None and scheme != before:
            port = ""
        return (
            f"{scheme}://{host}:{port}"
            if port and port != DEFAULT_PORTS.get(scheme)
            else f"{scheme}://{host}"
        )

    def _path(self, asked: str) -> str:
        path, mark, query = asked.partition("?")
        if self.path is not None:
            path = self.path
            if "?" in path:
                mark = query = ""
        elif self.prefix_rewrite is not None and path.startswith(self.prefix):
            path = self.prefix_rewrite + path[len(self.prefix) :]
        return path if self.strip_query else path + mark + query
