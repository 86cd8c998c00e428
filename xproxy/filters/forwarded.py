"""Forwarded: who the client was, for upstreams that see only the proxy (X-Forwarded-*, and Via, RFC 9110 §7.6.3)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Iterator
from typing import Final

import attrs

from xproxy.codecs.memo import HeadMemo
from xproxy.model.headers import Headers
from xproxy.model.message import Fields, RequestHead, Target
from xproxy.model.networks import Networks
from xproxy.stream.exchange import ConnectionFacts, Handler, Request, Response

_MEMO_LIMIT: Final = 512
_PSEUDONYM: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(:[0-9]+)?")
_SAID_BY_PROXIES: Final = (
    # Who the client is, and how it came
    *("forwarded", "x-forwarded", "forwarded-for", "x-forwarded-for", "x-original-forwarded-for"),
    *("x-real-ip", "x-client-ip", "x-remote-ip", "x-remote-addr", "remote-addr", "client-ip"),
    *("true-client-ip", "x-true-client-ip", "x-cluster-client-ip", "cf-connecting-ip"),
    *(
        "fastly-client-ip",
        "fly-client-ip",
        "x-originating-ip",
        "x-azure-clientip",
        "x-azure-socketip",
    ),
    *("cf-connecting-ipv6", "proxy-client-ip", "wl-proxy-client-ip", "x-vercel-forwarded-for"),
    *("x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-scheme", "x-forwarded-ssl"),
    *("x-url-scheme", "x-scheme", "front-end-https", "x-forwarded-tlsversion", "cf-visitor"),
    # What it asked for
    *("x-forwarded-host", "x-forwarded-port", "x-forwarded-server", "x-forwarded-by", "x-host"),
    *("x-forwarded-prefix", "x-forwarded-path", "x-forwarded-uri", "x-forwarded-method"),
    *("x-original-url", "x-original-uri", "x-original-host", "x-original-method", "x-rewrite-url"),
    "x-script-name",
    # Whom it has proved to be
    *("x-forwarded-client-cert", "client-cert", "client-cert-chain", "x-client-cert"),
    *("x-ssl-cert", "x-ssl-client-cert", "x-ssl-client-dn", "x-ssl-client-s-dn"),
    *("x-ssl-client-verify", "ssl-client-cert", "ssl-client-verify", "x-amzn-mtls-clientcert"),
    *("x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-access-token"),
    *("x-forwarded-preferred-username", "x-remote-user", "remote-user", "x-auth-request-user"),
    *("x-auth-request-email", "x-auth-request-groups", "x-webauth-user", "x-arr-clientcert"),
    *("x-amzn-oidc-identity", "x-amzn-oidc-data", "x-amzn-oidc-accesstoken"),
    *(
        "x-goog-authenticated-user-email",
        "x-goog-authenticated-user-id",
        "x-goog-iap-jwt-assertion",
    ),
    *("x-ms-client-principal", "x-ms-client-principal-id", "x-ms-client-principal-name"),
)
_FAMILIES: Final = ("x-forwarded-", "x-envoy-")
"""All of whose names only proxies say; Envoy takes orders by the second."""
_MOST_DASHES: Final = 5


def _spellings(name: str) -> Iterator[str]:
    # CGI and its heirs (WSGI, PHP, Rack) read a dash and an underscore as the same.
    words = name.split("-")
    assert len(words) <= _MOST_DASHES + 1
    for joints in itertools.product("-_", repeat=len(words) - 1):
        yield "".join(map("".join, zip(words, (*joints, ""), strict=True)))


_CLAIMS: Final = frozenset(s for name in _SAID_BY_PROXIES for s in _spellings(name))
"""What an untrusted client may not say, in every spelling: it goes, whether or not we put our own in its place."""


_CHANGED: Final = frozenset((*_CLAIMS, "via"))
"""Without any of these in it, nor any of ``_FAMILIES``, a head is only added to."""


# Names, as they were spelled, that were looked at and are none of those: of a pure function, emptied when full.
_harmless: Final[set[str]] = set()
_MOST_HARMLESS: Final = 1024
_LONGEST_HARMLESS: Final = 64


def _is_untouched(headers: Headers) -> bool:
    names: tuple[str, ...] = next(zip(*headers.pairs, strict=True), ())
    return _harmless.issuperset(names) or all(map(_is_harmless, names))


def _is_harmless(name: str) -> bool:
    if _is_claim(name) or name.lower() in _CHANGED:
        return False
    if len(name) <= _LONGEST_HARMLESS:
        if len(_harmless) >= _MOST_HARMLESS:
            _harmless.clear()
        _harmless.add(name)
    return True


def _is_claim(name: str) -> bool:
    lower = name.lower()
    return lower in _CLAIMS or lower.replace("_", "-").startswith(_FAMILIES)


def _networks(_: object, __: object, texts: tuple[str, ...]) -> None:
    Networks(texts)


def _pseudonym(_: object, __: object, text: str) -> None:
    if text and not _PSEUDONYM.fullmatch(text):
        raise ValueError(f"{text!r} cannot stand in Via: use a token, or host:port")


@attrs.frozen(kw_only=True)
class Forwarded:
    """Tell the upstream who the client was: X-Forwarded-For, X-Forwarded-Proto and Via. Web requests only."""

    trusted: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    """Networks (CIDR) of proxies in front of this one: what they say is kept and added to. What others claim is
    dropped: Forwarded, everything of X-Forwarded-… and X-Envoy-…, X-Real-IP and its like, the original URL, and
    certificates or users that a proxy is said to have checked. Unix peers are trusted."""
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
    _untouched: HeadMemo[bool] = attrs.field(factory=HeadMemo, init=False, eq=False, repr=False)
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
                if known is None and not head.recurs:
                    known = (head, self._changed(head, head.extra, facts))
                elif known is None:
                    if len(self._memo) >= _MEMO_LIMIT:
                        self._memo.clear()
                    # The old head is held too: its id must not come to mean another.
                    known = self._memo[key] = (head, self._changed(head, head.extra, facts))
                request.head = known[1]
        return call_next(request)

    def _changed(self, head: RequestHead, target: Target, facts: ConnectionFacts) -> RequestHead:
        headers = head.headers
        if not self.host and self._only_added_to(head):
            return head.adding(self._fields(facts, target.version))
        stranger = not facts.peer.is_unix and facts.peer.host not in self._trusted
        if stranger:
            headers = Headers(pair for pair in headers.pairs if not _is_claim(pair[0]))
        headers = _append(headers, "x-forwarded-for", facts.peer.host)
        if "x-forwarded-proto" not in headers:
            headers = headers.add("x-forwarded-proto", "https" if facts.tls else "http")
        if self.host and head.service and "x-forwarded-host" not in headers:
            headers = headers.add("x-forwarded-host", head.service)
        if self.via:
            headers = _append(headers, "via", f"{target.version} {self.via}")
        return head.with_headers(headers)

    def _only_added_to(self, head: RequestHead) -> bool:
        # What is under the additions of filters may recur, and is looked at once then.
        base = head.base
        if base is None or not base.recurs:
            return _is_untouched(head.headers)
        found = self._untouched.get(base)
        if found is None:
            found = self._untouched.put(base, _is_untouched(base.headers))
        if found:
            for name, _ in head.added:  # a loop: there are one or two
                if name not in _harmless and not _is_harmless(name):
                    return False
        return found

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
