"""Conditions of routes that can never hold: allowed, as they harm nobody, but surely not meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from xproxy.config.findings import Path, show
from xproxy.config.schema import (
    Config,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    RouteConfig,
    StringMatch,
)
from xproxy.model.paths import merged, normalised_path

_TOKEN_CHARS: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
_PSEUDO: Final = frozenset({":method", ":path", ":authority", ":scheme"})
_WEB_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"}
)


def never(config: Config, table: str, routes: Sequence[RouteConfig]) -> Iterator[tuple[Path, str]]:
    """Give the conditions of a table that no request can meet, with their paths."""
    listeners = [one for one in config.listeners if one.routes == table]
    seen: dict[object, int] = {}
    for index, route in enumerate(routes):
        where: Path = ("routes", table, index)
        match = route.match
        if match.path is not None:
            for key, why in _path(match.path, listeners):
                yield (*where, "match", "path", key), f"never holds: {why}"
        for kind, texts in (("headers", match.headers), ("query", match.query)):
            for name, test in (texts or {}).items():
                for why in _text(kind, name, test):
                    yield (*where, "match", kind, name), f"never holds: {why}"
        for key, why in _whole(route, match, listeners):
            yield (*where, "match", key), f"never holds: {why}"
        # By its text: what a condition holds need not be hashable.
        same = repr((route.hosts, match))
        if same in seen and match != MatchConfig() and match.fraction is None:
            yield where, f"never reached: routes.{table}[{seen[same]}] matches the same"
        seen.setdefault(same, index)


def _path(match: PathMatch, listeners: Sequence[ListenerConfig]) -> Iterator[tuple[str, str]]:
    for key in ("exact", "prefix", "segment_prefix"):
        text = getattr(match, key)
        if not text or text == "*":
            continue
        if not text.startswith("/"):
            yield key, f"a path begins with a slash: write {show('/' + text)}"
            continue
        if "?" in text or "#" in text:
            yield key, "a path is looked at without its query: use `query`"
            continue
        plain = text
        if listeners and all(one.normalize_path for one in listeners):
            plain = normalised_path(text)
        if listeners and all(one.merge_slashes for one in listeners):
            plain = merged(plain)
        # A prefix may end where a dot segment would begin: `/.` is how `/.well-known` begins.
        if plain != text and not (key == "prefix" and text.rpartition("/")[2] in (".", "..")):
            yield key, f"paths are normalised before: write {show(plain)}"


def _text(kind: str, name: str, test: StringMatch) -> Iterator[str]:
    if kind != "headers":
        return
    bare = name[1:] if name.lower() in _PSEUDO else name
    if not bare or not _TOKEN_CHARS.issuperset(bare):
        yield f"{show(name)} is not the name of a header"
        return
    for text in (test.exact, test.prefix, test.suffix):
        if text is None or test.invert:
            continue
        left, right = text is not test.suffix, text is not test.prefix
        if (left and text[:1] in (" ", "\t")) or (right and text[-1:] in (" ", "\t")):
            yield "white space around a value is not part of it"


def _whole(
    route: RouteConfig, match: MatchConfig, listeners: Sequence[ListenerConfig]
) -> Iterator[tuple[str, str]]:
    web = (route.hosts and "*" not in route.hosts) or match.path is not None or match.query
    for method in match.method or ():
        if web and method != method.upper() and method.upper() in _WEB_METHODS:
            yield "method", f"methods have case: write {method.upper()}"
    if match.tls is False and match.peer_identity is not None:
        yield "peer_identity", "without TLS nobody shows a certificate"
    if not listeners:
        return
    ended = any(one.tls is not None and one.tls.certificates for one in listeners)
    if match.tls is True and not ended:
        yield "tls", "no listener with these routes ends TLS"
    if (
        match.peer_identity is not None
        and not any(
            one.tls is not None and one.tls.client_certificates is not None for one in listeners
        )
        and _wants_some(match.peer_identity)
    ):
        yield "peer_identity", "no listener with these routes asks for certificates"
    if match.sni is not None and _wants_some(match.sni) and all(o.tls is None for o in listeners):
        yield "sni", "no listener with these routes looks at TLS"
    if match.port is not None and not any(_may_be(one, match.port) for one in listeners):
        yield "port", "no listener with these routes is there"


def _wants_some(test: StringMatch) -> bool:
    return test.present is not False and not (test.present is True and test.invert)


def _may_be(listener: ListenerConfig, port: int) -> bool:
    # With a PROXY header it is the port that the client called, wherever that was.
    address = listener.address
    if listener.proxy_protocol is not False:
        return True
    return not address.is_unix and address.port in (0, port)
