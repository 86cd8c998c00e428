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
from urllib.parse import parse_qsl

import attrs

from xproxy.config.schema import PathMatch, StringMatch
from xproxy.model.message import RequestHead, Target
from xproxy.model.networks import Networks
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

    def fails(self, head: RequestHead, facts: ConnectionFacts) -> Failure | None:
        """Return why the condition does not hold, or None if it does."""
        found = self.find(head, facts)
        if self.holds(found):
            return None
        shown = found if found is None or len(found) <= _SHOWN else found[:_SHOWN] + "…"
        return Failure(self.what, shown, self.wanted)


def find_host(head: RequestHead, facts: ConnectionFacts) -> str | None:
    """Return the authority of a web request in lower case; RPC requests have none."""
    return head.service.lower() if isinstance(head.extra, Target) else None


def find_path(head: RequestHead, facts: ConnectionFacts) -> str | None:
    """Return the path of a web request without its query; empty for a tunnel (CONNECT)."""
    extra = head.extra
    return extra.path.partition("?")[0] if isinstance(extra, Target) else None


def find_service(head: RequestHead, facts: ConnectionFacts) -> str | None:
    """Return the service that is called; the authority of a web request that is no call."""
    rpc = head.rpc
    return head.service if rpc is None else rpc.service


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
    """Return the finder of a field; several of one name are joined with a comma."""

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        return head.headers.get(name)

    return find


def find_argument(name: str) -> Find:
    """Return the finder of a call's argument; there is none where the codec does not know their names."""

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        arguments = head.arguments
        return arguments.get(name) if arguments is not None else None

    return find


# A query is parsed once for all the conditions that ask for one of its parameters.
@functools.lru_cache(maxsize=256)
def _parameters(query: str) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters.setdefault(name, value)
    return parameters


def find_parameter(name: str) -> Find:
    """Return the finder of a query parameter: percent-decoded, the first of several."""

    def find(head: RequestHead, facts: ConnectionFacts) -> str | None:
        query = head.path.partition("?")[2]
        return _parameters(query).get(name) if query else None

    return find


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the configuration. Raises ValueError that says what is wrong with it."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"regex {pattern!r} is not valid: {error}") from None


def _only_key(values: Mapping[str, object], allowed: str) -> str:
    given = [key for key, value in values.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"needs exactly one of {allowed}; has {', '.join(given) or 'none'}")
    return given[0]


def text_test(match: StringMatch) -> tuple[str, Holds]:
    """Return what is wanted, and the test. Raises ValueError for a bad regex, or not exactly one key."""
    keys = attrs.asdict(match)
    invert = bool(keys.pop("invert"))
    key = _only_key(keys, "exact, prefix, suffix, contains, regex, present")
    if key == "present":
        # Absence is what is asked about here, so turning round applies to it; not so below.
        present = bool(match.present) is not invert
        return ("present" if present else "absent", lambda found: (found is not None) is present)
    wanted = f"{'not ' if invert else ''}{key} {keys[key]!r}"
    holds = _positive(key, str(keys[key]))
    if invert:
        return wanted, lambda found: found is not None and not holds(found)
    return wanted, lambda found: found is not None and holds(found)


def name_test(match: StringMatch) -> tuple[str, Holds]:
    """As ``text_test``, for host names, which come in lower case: however it is written. A regex is left as it is."""
    lower = [None if t is None else t.lower() for t in (match.exact, match.prefix, match.suffix)]
    exact, prefix, suffix = lower
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
            fullmatch = compile_pattern(text).fullmatch
            return lambda found: fullmatch(found) is not None
        case _:
            raise ValueError(f"{key!r} is not a way to compare texts")


def _segments(prefix: str) -> Callable[[str], bool]:
    whole = prefix.rstrip("/")
    inside = whole + "/"
    if not whole:
        return lambda found: found.startswith("/")
    return lambda found: found == whole or found.startswith(inside)


def path_test(match: PathMatch) -> tuple[str, Holds]:
    """Return what is wanted of a path, and the test. Raises ValueError as ``text_test``."""
    keys = attrs.asdict(match)
    key = _only_key(keys, "exact, prefix, segment_prefix, regex")
    holds = _positive(key, str(keys[key]))
    return f"{key} {keys[key]!r}", lambda found: found is not None and holds(found)


def one_of(allowed: Iterable[str]) -> tuple[str, Holds]:
    """Return the test for one of several texts, case-sensitive."""
    texts = tuple(allowed)
    if not texts:
        raise ValueError("must not be an empty list")
    return " or ".join(map(repr, texts)), frozenset(texts).__contains__


def presence_test(wanted: bool) -> tuple[str, Holds]:
    """Return the test for there being something, or nothing."""
    return text_test(StringMatch(present=wanted))


def network_test(blocks: Iterable[str]) -> tuple[str, Holds]:
    """Return the test for an address in one of several networks. Raises ValueError."""
    networks = Networks(blocks)
    if not networks.blocks:
        raise ValueError("must not be an empty list")
    return f"in {networks}", networks.__contains__
