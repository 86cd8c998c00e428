"""Session: the requests of one client go to the endpoint that its first one went to, as long as that is there."""

from __future__ import annotations

import attrs

from xproxy.config.balancing import CookieConfig
from xproxy.routing.cookies import cookie_of, set_cookie
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.record import Wish
from xproxy.upstream.session import token_of


@attrs.frozen(kw_only=True)
class Session:
    """Keep a client with one endpoint: what names it is given with the answer, and comes with the next request.

    It says nothing but which one it was, and is not a secret: a client may choose among the endpoints of its cluster
    that are fit.
    """

    cookie: CookieConfig | None = None
    """Of web requests. Without ``ttl`` it lasts until the client ends its session."""
    header: str | None = None
    """Or a header, of requests and answers; an attachment of calls."""
    strict: bool = False
    """Refuse a request whose endpoint is not there, or not fit. Else it goes to another one, and stays there."""

    def __attrs_post_init__(self) -> None:
        if (self.cookie is None) is (self.header is None):
            raise ValueError("needs either a cookie or a header")

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises NoHealthyEndpoint, where it is strict."""
        token = self._token(request)
        if token is not None:
            request.record.wish = Wish(token, self.strict)
        response = await call_next(request)
        endpoint = request.record.endpoint
        if endpoint is not None and token_of(endpoint) != token:
            name, value = self._naming(token_of(endpoint))
            headers = response.head.headers.add(name, value)
            response.head = attrs.evolve(response.head, headers=headers)
        return response

    def _token(self, request: Request) -> str | None:
        headers = request.head.headers
        if self.cookie is not None:
            return cookie_of(headers, self.cookie.name)
        return headers.get(self.header or "")

    def _naming(self, token: str) -> tuple[str, str]:
        if self.cookie is not None:
            return "set-cookie", set_cookie(self.cookie, token)
        return self.header or "", token
