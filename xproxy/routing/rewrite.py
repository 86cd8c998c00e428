"""Rewriting: another path or host for the requests of a route (semantics of Envoy's ``prefix_rewrite``)."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Final, final

import attrs

from xproxy.codecs.memo import HeadMemo
from xproxy.config.routing import RewriteConfig
from xproxy.config.schema import PathMatch
from xproxy.model.message import RequestHead, Target, recurring
from xproxy.stream.exchange import Handler, Request, Response

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""What a header may say: it comes from a client."""


@final
class Rewrite:
    """A filter that changes the path and the authority of web requests."""

    __slots__ = ("_config", "_heads", "_prefix", "_segments")

    def __init__(self, config: RewriteConfig, match: PathMatch | None) -> None:
        """``match``: what paths of the route begin with, where ``config`` has a prefix."""
        self._config = config
        self._prefix = ""
        self._segments = False
        if match is not None:
            self._segments = match.segment_prefix is not None
            self._prefix = (match.segment_prefix or "").rstrip("/") or match.prefix or ""
        # A head that recurs is changed once: what the upstream codec remembers of it stays of use.
        self._heads: HeadMemo[RequestHead] = HeadMemo()

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """See Filter."""
        old = request.head
        if isinstance(old.extra, Target) and old.extra.path.startswith("/"):
            head = self._heads.get(old)
            if head is None:
                head = self.changed(old, old.extra)
                if old.recurs and old.base is None:
                    head = self._heads.put(old, recurring(head))
            request.head = head
        return call_next(request)

    def changed(self, head: RequestHead, target: Target) -> RequestHead:
        """Return the head for this route's cluster."""
        config = self._config
        host = config.host
        if config.host_header is not None:
            said = head.headers.get(config.host_header)
            host = said if said is not None and _HOST.fullmatch(said) else None
        if config.prefix is not None:
            path = self._path(target, config.prefix)
            rpc = target.rpc.at(path) if target.rpc is not None else None
            target = target.at(target.scheme, path, ("", ""), rpc)
        return attrs.evolve(head, service=host or head.service, extra=target)

    def _path(self, target: Target, new: str) -> str:
        path, mark, query = target.path.partition("?")
        old = self._prefix
        if not path.startswith(old):
            path = target.match_path  # the route saw it without repeated slashes
        rest = path[len(old) :]
        if self._segments:
            new = new.rstrip("/")
            rest = rest if rest or new else "/"
        return new + rest + mark + query
