"""Sessions: a client names the endpoint that it was with, by a token that says nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from xxhash import xxh64_hexdigest

from xproxy.model.address import Address
from xproxy.upstream.endpoint import Endpoint


def token_of(address: Address) -> str:
    """Return the token of an endpoint: 16 characters, the same in every process."""
    return xxh64_hexdigest(str(address).encode("utf-8", "surrogateescape"))


def by_token(endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
    """Return endpoints by their tokens; of one address the first."""
    found: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        found.setdefault(token_of(endpoint.address), endpoint)
    return found
