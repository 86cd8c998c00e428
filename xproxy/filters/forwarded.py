"""Forwarded: who the client was, for upstreams that see only the proxy (X-Forwarded-*, and Via, RFC 9110 §7.6.3)."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Final

import attrs

from xproxy.model.headers import Headers
from xproxy.model.message import Fields, RequestHead, Target
from xproxy.model.networks import Networks
from xproxy.stream.exchange import ConnectionFacts, Handler, Request, Response

_MEMO_LIMIT: Final = 512
_PSEUDONYM: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(:[0-9]+)?")
_CLAIMS: Final = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
"""What an untrusted client may not say: it goes, whether or not we put our own in its place."""

_CHANGED: Final = frozenset((*_CLAIMS, "via"))
"""Without any of these in it, a head is only added to."""


def _networks(_: object, __: object, texts: tuple[str, ...]) -> None:
    Networks(texts)


def _pseudonym(_: object, __: object, text: str) -> None:
    if text and not _PSEUDONYM.fullmatch(text):
        raise ValueError(f"{text!r} cannot stand in Via: use a token, or host:port")


@attrs.frozen(kw_only=True)
class Forwarded:
    """Tell the upstream who the client was: X-Forwarded-For, X-Forwarded-Proto and Via. Web requests only."""

    trusted: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    """Networks (CIDR) of proxies in front of this one: what they say is kept and added to. What others claim
    (also in Forwarded and X-Forwarded-Host) is dropped. Unix peers are trusted."""
    host: bool = False
    """Also say which host the client asked for, in X-Forwarded-Host."""
    via: str = attrs.field(default="xproxy", validator=_pseudonym)
    """The name of this proxy in Via; empty: no Via."""

    _trusted: Networks = attrs.field(
        default=attrs.Factory(lambda self: Networks(self.trusted), takes_self=True),
        init=False,
        eq=False,
        repr=False,
    )
    # One client's head that recurs is changed once, so that the upstream codec sees one object again.
    _memo: dict[tuple[int, str, bool], tuple[RequestHead, RequestHead]] = attrs.field(
        factory=dict, init=False, eq=False, repr=False
    )
    # What is added to the head of a client that claims nothing, by (host, TLS, version).
    _plain: dict[tuple[str, bool, str], Fields] = attrs.field(
        factory=dict, init=False, eq=False, repr=False
    )

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """Change the request and hand it on."""
        head = request.head
        if isinstance(head.extra, Target):
            facts = request.connection
            if head.base is not None:
                # Another filter has made this head for this one request: it will not come again.
                request.head = self._changed(head, head.extra, facts)
            else:
                key = (id(head), facts.peer.host, facts.tls)
                known = self._memo.get(key)
                if known is None:
                    if len(self._memo) >= _MEMO_LIMIT:
                        self._memo.clear()
                    # The old head is held too: its id must not come to mean another.
                    known = self._memo[key] = (head, self._changed(head, head.extra, facts))
                request.head = known[1]
        return call_next(request)

    def _changed(self, head: RequestHead, target: Target, facts: ConnectionFacts) -> RequestHead:
        headers = head.headers
        if not self.host and not headers.has_any(_CHANGED):
            return head.adding(self._fields(facts, target.version))
        if not facts.peer.is_unix and facts.peer.host not in self._trusted:
            headers = headers.remove(*_CLAIMS)
        headers = _append(headers, "x-forwarded-for", facts.peer.host)
        if "x-forwarded-proto" not in headers:
            headers = headers.add("x-forwarded-proto", "https" if facts.tls else "http")
        if self.host and head.service and "x-forwarded-host" not in headers:
            headers = headers.add("x-forwarded-host", head.service)
        if self.via:
            headers = _append(headers, "via", f"{target.version} {self.via}")
        return head.with_headers(headers)

    def _fields(self, facts: ConnectionFacts, version: str) -> Fields:
        key = (facts.peer.host, facts.tls, version)
        fields = self._plain.get(key)
        if fields is None:
            if len(self._plain) >= _MEMO_LIMIT:
                self._plain.clear()
            found: list[tuple[str, str]] = []
            if facts.peer.host:
                found.append(("x-forwarded-for", facts.peer.host))
            found.append(("x-forwarded-proto", "https" if facts.tls else "http"))
            if self.via:
                found.append(("via", f"{version} {self.via}"))
            fields = self._plain[key] = tuple(found)
        return fields


def _append(headers: Headers, name: str, value: str) -> Headers:
    """Add to a list field: one line, whatever number of lines it came in."""
    if not value:
        return headers
    before = headers.get(name)
    return headers.set(name, f"{before}, {value}" if before else value)
