"""What a request is addressed to, said in one way: https where it came over TLS, and a path without detours."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, final

import attrs

from xproxy.codecs.memo import HeadMemo
from xproxy.config.schema import ListenerConfig
from xproxy.model.errors import BadTarget, Unsupported
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target, recurring
from xproxy.model.paths import (
    has_escaped_slash,
    in_capitals,
    merged,
    normalised_path,
    with_slashes,
)
from xproxy.model.status import Status
from xproxy.stream.exchange import Handler, Request, Response, local_response

SECURE: Final = "https"
_ELSEWHERE: Final = 307
"""The redirect that keeps method and body (RFC 9110 §15.4.8)."""


@attrs.frozen(kw_only=True)
class PathRules:
    """What a listener does with paths before anything looks at them; see its configuration."""

    normalise: bool = True
    merge_slashes: bool | str = "match"
    escaped_slashes: str = "keep_unchanged"

    @classmethod
    def of(cls, config: ListenerConfig) -> PathRules:
        """Return those of a listener."""
        return cls(
            normalise=config.normalize_path,
            merge_slashes=config.merge_slashes,
            escaped_slashes=config.path_with_escaped_slashes_action,
        )

    @property
    def idle(self) -> bool:
        """They change nothing."""
        return self == PathRules(normalise=False, merge_slashes=False)

    def apply(self, path: str) -> tuple[str, str]:
        """Return the path to send on and the one to match by, both without query; pure."""
        if self.normalise:
            path = normalised_path(path)
        if self.merge_slashes is True:
            path = merged(path)
        matched = in_capitals(path) if self.normalise else path
        return path, merged(matched) if self.merge_slashes else matched


@final
class Addressed:
    """The outermost handler of a listener: before any filter, so that none of them can be got round by a spelling."""

    __slots__ = ("_handler", "_known", "_redirecting", "_rejecting", "_rules")

    def __init__(
        self,
        handler: Handler,
        rules: PathRules,
        rejecting: Handler,
        redirecting: Handler,
    ) -> None:
        """``rejecting`` and ``redirecting``: ``reject`` and ``redirect``, with the listener's filters round them."""
        self._handler = handler
        self._rules = rules
        self._rejecting = rejecting
        self._redirecting = redirecting
        # A head that recurs stays one object, which is what others' memories go by.
        self._known: HeadMemo[tuple[RequestHead, Handler]] = HeadMemo()

    def __call__(self, request: Request) -> Awaitable[Response]:
        """See Handler."""
        head = request.head
        target = head.extra
        if type(target) is not Target:
            return self._handler(request)
        path = target.path
        # ``is_plain``, written out: every request comes here, and a call costs as much as all four.
        if ("/." in path or "%" in path or "//" in path or "\\" in path) or (
            request.connection.tls and target.scheme != SECURE
        ):
            found = self._known.get(head)
            if found is None:
                secure = request.connection.tls
                found = self._known.put(head, self._addressed(head, target, secure=secure))
            request.head, handler = found
            return handler(request)
        return self._handler(request)

    def _addressed(
        self, head: RequestHead, target: Target, *, secure: bool
    ) -> tuple[RequestHead, Handler]:
        handler = self._handler
        scheme = SECURE if secure else target.scheme
        path, mark, query = target.path.partition("?")
        if not path.startswith("/"):  # a tunnel, or OPTIONS *
            return _evolved(head, target, scheme, target.path, ""), handler
        if self._rules.escaped_slashes != "keep_unchanged" and has_escaped_slash(path):
            if self._rules.escaped_slashes == "reject_request":
                return head, self._rejecting
            path = with_slashes(path)
            if self._rules.escaped_slashes == "unescape_and_redirect":
                handler = self._redirecting
        path, matched = self._rules.apply(path)
        matched = matched if matched != path else ""
        return _evolved(head, target, scheme, path + mark + query, matched), handler


def _evolved(
    head: RequestHead, target: Target, scheme: str, path: str, matched: str
) -> RequestHead:
    if (scheme, path, matched) == (target.scheme, target.path, ""):
        return head
    rpc = target.rpc
    if rpc is not None and (matched or path != target.path):
        rpc = rpc.at(matched or path)
    both = (path, matched) if matched else ("", "")
    evolved = head.with_extra(target.at(scheme, path, both, rpc))
    return recurring(evolved) if head.recurs else evolved


async def reject(request: Request) -> Response:
    """Refuse a path with an escaped slash. Raises BadTarget."""
    raise BadTarget("an escaped slash or backslash in the path")


async def redirect(request: Request) -> Response:
    """Send the client to the path without escaped slashes. Raises Unsupported for what is no plain web request."""
    if request.head.rpc is not None:
        raise Unsupported("an escaped slash in the path of a call")
    request.record.local = True
    request.record.detail = "path_normalized"
    path = request.head.path
    # A path that begins with two slashes would be another host to the client.
    location = path if not path.startswith("//") else "/" + path.lstrip("/")
    head = ResponseHead(
        status=Status.OK,
        native_status=_ELSEWHERE,
        headers=Headers((("location", location),)),
    )
    return local_response(head)
