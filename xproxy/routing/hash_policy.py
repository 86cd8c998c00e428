"""Hash policies: what requests have in common that go to one endpoint, as a number of 64 bits.

Each policy that finds something hashes it with xxHash; hashes are combined in the order of the list: rotate left by
one, XOR (semantics of Envoy). Total: any request has a hash, or none.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, final

import attrs
from xxhash import xxh64_intdigest

from xproxy.config.balancing import CookieConfig, HashPolicyConfig
from xproxy.model.message import Target
from xproxy.model.metadata import key_named
from xproxy.routing.cookies import cookie_of, set_cookie
from xproxy.routing.match import Find, find_argument, find_header, find_parameter
from xproxy.stream.exchange import Handler, Request, Response

_MASK: Final = (1 << 64) - 1
_Ask: TypeAlias = Callable[[Request], str | None]


def combined(before: int | None, found: int) -> int:
    """Return the hash of what came before and what was found now."""
    if before is None:
        return found
    return (before << 1 | before >> 63) & _MASK ^ found


@final
class HashPolicies:
    """Gives requests their hash. A filter, once for each request: a retry keeps the hash of the first try."""

    __slots__ = ("_policies",)

    def __init__(self, configs: Sequence[HashPolicyConfig]) -> None:
        self._policies = [(_asking(one), one.cookie, one.terminal) for one in configs]

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """See Filter."""
        given: list[str] = []
        request.record.hash = self.hash_of(request, given)
        return _giving(request, call_next, given) if given else call_next(request)

    def hash_of(self, request: Request, given: list[str]) -> int | None:
        """Return a request's hash; None: no policy finds anything.

        ``given`` gets the Set-Cookie of each cookie that its client is to be given.
        """
        result: int | None = None
        for ask, cookie, terminal in self._policies:
            found = ask(request)
            if found is None and cookie is not None and cookie.ttl is not None:
                found = _made(request, cookie, given)
            if found is not None:
                data = found.encode("utf-8", "surrogateescape")
                result = combined(result, xxh64_intdigest(data))
            if terminal and result is not None:
                break
        return result


def _made(request: Request, cookie: CookieConfig, given: list[str]) -> str | None:
    if not isinstance(request.head.extra, Target):
        return None  # nobody would send it back
    value = f"{random.getrandbits(64):016x}"  # it names an endpoint at most
    given.append(set_cookie(cookie, value))
    return value


async def _giving(request: Request, call_next: Handler, given: Sequence[str]) -> Response:
    response = await call_next(request)
    fields = tuple(("set-cookie", value) for value in given)
    response.head = attrs.evolve(response.head, headers=response.head.headers.extend(fields))
    return response


def _asking(config: HashPolicyConfig) -> _Ask:
    if config.header is not None:
        return _found(find_header(config.header))
    if config.query is not None:
        return _found(find_parameter(config.query))
    if config.argument is not None:
        return _found(find_argument(config.argument))
    if config.cookie is not None:
        name = config.cookie.name
        return lambda request: cookie_of(request.head.headers, name)
    if config.metadata is not None:
        return _written(config.metadata)
    return _source if config.source else _path


def _found(find: Find) -> _Ask:
    return lambda request: find(request.head, request.connection)


def _written(name: str) -> _Ask:
    def ask(request: Request) -> str | None:
        key = key_named(name) if request.noted is not None else None
        value = None if key is None else request.metadata.get(key)
        return None if value is None else str(value)

    return ask


def _source(request: Request) -> str | None:
    peer = request.connection.peer
    return peer.host or None


def _path(request: Request) -> str | None:
    head = request.head
    if isinstance(head.extra, Target):
        return head.path.partition("?")[0] or None
    return f"{head.service}/{head.method}" if head.service or head.method else None
