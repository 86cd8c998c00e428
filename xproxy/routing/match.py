"""Conditions: the single tests a route is made of. Each knows how to decide, and how to tell what it saw.

A condition *finds* a text in the request or its connection and asks whether it *holds*. Deciding and explaining use
the same two calls, so an explanation cannot differ from the decision.
(idea: linkerd2-proxy:linkerd/http/route, where matching returns what matched)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias
from urllib.parse import unquote_plus

import attrs

from xproxy.config.schema import PathMatch, StringMatch
from xproxy.model.authority import DEFAULT_PORTS, normalised, with_port
from xproxy.model.message import RequestHead, Target
from xproxy.model.networks import Networks
from xproxy.routing.cookies import cookie_of
from xproxy.routing.fraction import Draw
from xproxy.routing.keys import Keys
from xproxy.routing.patterns import compile_pattern
from xproxy.stream.exchange import ConnectionFacts

Find: TypeAlias = Callable[[RequestHead, ConnectionFacts], str | None]
Holds: TypeAlias = Callable[[str | None], bool]

_SHOWN: Final = 200
"""Characters of a found text that an explanation shows."""


@attrs.frozen(eq=False)
class Failure:
    """A condition that did not hold, for people."""

    what: str
    """What was looked at: ``path``, ``header cookie``."""
    found: str | None
    """The text that was there, cut to 200 characters; None: there was none."""
    wanted: str

    def __str__(self) -> str:
        found = "none" if self.found is None else repr(self.found)
        return f"{self.what}: found {found}, wanted {self.wanted}"


@attrs.frozen(eq=False)
class Condition:
    """One test of a request."""

    what: str
    """What it looks at: ``path``, ``header cookie``."""
    wanted: str
    """What holds, for people."""
    find: Find
    holds: Holds
    on_connection: bool = False
    """It looks at the connection: requests with equal heads may differ in it."""
    find_on_connection: Find | None = None
    """What it finds there, if it looks at the head as well; None: ``find`` does not."""
    keys: Keys = ()
    """What the text must be like where it holds; none: nothing is known of it."""
    field: str = ""
    """The header field that it looks at, in lower case."""
    refuses: bool = False
    """The test may raise BadTarget."""
    draw: Draw | None = None
    """What it finds is drawn for each request: requests with equal heads may differ in it."""

    def fails(self, head: RequestHead, facts: ConnectionFacts) -> Failure | None:
        """Return why the condition does not hold, or None if it does."""
        found = self.find(head, facts)
        if self.holds(found):
            return None
        shown = found if found is None or len(found) <= _SHOWN else found[:_SHOWN] + "…"
        return Failure(self.what, shown, self.wanted)


def find_host(head: RequestHead, facts: ConnectionFacts) -> str | None:
    """Return the authority of a web request at its plainest, with its port; RPC requests have none."""
    extra = head.extra
    if not isinstance(extra, Target):
        return None
    # A scheme that has no port of its own is no way round a rule for one: it is taken for http.
    return with_port(head.service, extra.scheme if extra.scheme in DEFAULT_PORTS else "http")


def find_path(head: RequestHead, facts: ConnectionFacts) -> str | None:
    """Return the path of a web request without its query, as its listener has it; empty for a tunnel (CONNECT)."""
    extra = head.extra
    return extra.match_path if isinstance(extra, Target) else None


def find_service(exact: str | None) -> Find:
    """Return the finder of the service that is called; the authority of a web request that is no call.

    An authority comes at its plainest, or in the spelling of ``exact`` if that means the same.
    """

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        extra = head.extra
        if not isinstance(extra, Target):
            return head.service
        if extra.rpc is not None:
            return extra.rpc.service
        found = normalised(head.service, extra.scheme)
        return exact if exact is not None and normalised(exact, extra.scheme) == found else found

    return find


def find_method(allowed: Iterable[str]) -> Find:
    """Return the finder of the method. A call within a web request has two, and either will do."""
    names = frozenset(allowed)

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        rpc = head.rpc
        if rpc is None or head.method in names:
            return head.method
        return rpc.method if rpc.method in names else f"{rpc.method} ({head.method})"

    return find


def find_codec(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return facts.protocol


def find_protocol(allowed: Iterable[str]) -> Find:
    """Return the finder of the protocol: the connection's, or the dialect of a call within it. Either will do."""
    names = frozenset(allowed)

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        rpc = head.rpc
        if rpc is None or facts.protocol in names:
            return facts.protocol
        return rpc.dialect if rpc.dialect in names else f"{rpc.dialect} ({facts.protocol})"

    return find


def find_sni(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return facts.sni


def find_tls(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return "ended here" if facts.tls else None


def find_alpn(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return facts.alpn


def find_peer_identity(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return facts.peer_identity


def find_source(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return facts.peer.host


def find_port(head: RequestHead, facts: ConnectionFacts) -> str | None:
    return str(facts.local.port)


def find_header(name: str) -> Find:
    """Return the finder of a field as the client sent it; several of one name are joined with a comma.

    Those in ``TOKENS`` come in lower case, and ``:path`` and its like are what they are in HTTP/2.
    """
    pseudo = _PSEUDO.get(name.lower())
    if pseudo is not None:
        return pseudo
    if name.lower() not in _AT_THIS_HOP:

        def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
            found = head.headers.get(name)
            # What Connection names ends here as well, but the client did send it.
            return found if found is not None or not head.extra else head.sent(name)

        return find

    def find_here(head: RequestHead, facts: ConnectionFacts) -> str | None:
        found = head.sent(name)
        return found.lower() if found is not None else None

    return find_here if name.lower() in TOKENS else lambda head, facts: head.sent(name)


TOKENS: Final = frozenset({"upgrade", "connection", "te", "transfer-encoding"})
"""Fields whose values are names that have no case (RFC 9110 §5.6.2): compared in lower case, by ``name_test``."""
_AT_THIS_HOP: Final = TOKENS | {"host", "keep-alive", "proxy-connection"}


def _web(read: Callable[[RequestHead, Target], str]) -> Find:
    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        return read(head, head.extra) or None if isinstance(head.extra, Target) else None

    return find


_PSEUDO: Final[Mapping[str, Find]] = {
    ":method": _web(lambda head, target: head.method),
    ":path": _web(lambda head, target: target.path),
    ":authority": _web(lambda head, target: head.service),
    ":scheme": _web(lambda head, target: target.scheme),
}


def find_cookie(name: str) -> Find:
    """Return the finder of a cookie: the first of its name (RFC 6265 §4.2)."""
    return lambda head, facts: cookie_of(head.headers, name)


def find_argument(name: str) -> Find:
    """Return the finder of a call's argument; there is none where the codec does not know their names."""

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        arguments = head.arguments
        return arguments.get(name) if arguments is not None else None

    return find


_LONGEST_REMEMBERED: Final = 1024
"""Characters of a query. Longer ones recur too seldom to be kept beside others."""


def _parse(query: str) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    # parse_qsl takes five times as long, which eight thousand characters of a client turn into milliseconds.
    for part in query.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        parameters.setdefault(name, value)  # which is decoded where it is asked for
    return parameters


# A query is parsed once for all the conditions that ask for one of its parameters.
_remembered = functools.lru_cache(maxsize=256)(_parse)
# Of the long ones the last: a hundred routes shall not parse it a hundred times.
_last = functools.lru_cache(maxsize=1)(_parse)


def _parameters(query: str) -> Mapping[str, str]:
    return (_remembered if len(query) <= _LONGEST_REMEMBERED else _last)(query)


def find_parameter(name: str) -> Find:
    """Return the finder of a query parameter: percent-decoded, the first of several."""

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        query = head.path.partition("?")[2]
        value = _parameters(query).get(name) if query else None
        return unquote_plus(value) if value else value

    return find


def text_test(match: StringMatch) -> tuple[str, Holds]:
    """Return what is wanted, and the test. Exactly one key is given. Raises ValueError as ``compile_pattern``."""
    keys = attrs.asdict(match, recurse=False)
    invert = bool(keys.pop("invert"))
    empty = bool(keys.pop("treat_missing_as_empty"))
    (key,) = (key for key, value in keys.items() if value is not None)
    if key == "present":
        # Absence is what is asked about here, so turning round applies to it; not so below.
        present = bool(match.present) is not invert
        return ("present" if present else "absent", lambda found: (found is not None) is present)
    if match.range is not None:
        start, end = match.range.start, match.range.end
        wanted = f"a number from {start} to below {end}"
        holds = _in_range(start, end)
    else:
        wanted = f"{key} {keys[key]!r}"
        holds = _positive(key, str(keys[key]))
    if invert:
        wanted = f"not {wanted}"
    if empty:
        return f"{wanted}, absent is empty", lambda found: holds(found or "") is not invert
    if invert:
        return wanted, lambda found: found is not None and not holds(found)
    return wanted, lambda found: found is not None and holds(found)


def name_test(match: StringMatch) -> tuple[str, Holds]:
    """As ``text_test``, for host names, which come in lower case: however it is written. A regex is left as it is."""
    lower = [None if t is None else t.lower() for t in (match.exact, match.prefix, match.suffix)]
    exact, prefix, suffix = lower
    # The dot at the end of a whole name is not part of what comes.
    exact, suffix = [t.removesuffix(".") if t else t for t in (exact, suffix)]
    contains = None if match.contains is None else match.contains.lower()
    return text_test(
        attrs.evolve(match, exact=exact, prefix=prefix, suffix=suffix, contains=contains)
    )


def _positive(key: str, text: str) -> Callable[[str], bool]:
    match key:
        case "exact":
            return lambda found: found == text
        case "prefix":
            return lambda found: found.startswith(text)
        case "suffix":
            return lambda found: found.endswith(text)
        case "contains":
            return lambda found: text in found
        case "segment_prefix":
            return _segments(text)
        case "regex":
            return compile_pattern(text)
        case _:
            raise ValueError(f"{key!r} is not a way to compare texts")


_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}")


def _in_range(start: int, end: int) -> Callable[[str], bool]:
    def holds(found: str) -> bool:
        return _NUMBER.fullmatch(found) is not None and start <= int(found) < end

    return holds


def _segments(prefix: str) -> Callable[[str], bool]:
    whole = prefix.rstrip("/")
    inside = whole + "/"
    if not whole:
        return lambda found: found.startswith("/")
    return lambda found: found == whole or found.startswith(inside)


def path_test(match: PathMatch) -> tuple[str, Holds]:
    """Return what is wanted of a path, and the test. Raises ValueError as ``text_test``."""
    keys = attrs.asdict(match)
    (key,) = (key for key, value in keys.items() if value is not None)
    holds = _positive(key, str(keys[key]))
    return f"{key} {keys[key]!r}", lambda found: found is not None and holds(found)


def one_of(allowed: Iterable[str]) -> tuple[str, Holds]:
    """Return the test for one of several texts, case-sensitive."""
    texts = tuple(allowed)
    return " or ".join(map(repr, texts)), frozenset(texts).__contains__


def presence_test(wanted: bool) -> tuple[str, Holds]:
    """Return the test for there being something, or nothing."""
    return text_test(StringMatch(present=wanted))


def network_test(blocks: Iterable[str]) -> tuple[str, Holds]:
    """Return the test for an address in one of several networks. Raises ValueError."""
    networks = Networks(blocks)
    return f"in {networks}", networks.__contains__
