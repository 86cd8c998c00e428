"""Which part of its cluster a route's requests go to."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import final

from xproxy.stream.exchange import Handler, Request, Response


@final
class MetadataMatch:
    """Writes down what the metadata of a request's endpoint is to say. A filter."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._wanted = MappingProxyType(dict(wanted))

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """See Filter."""
        request.record.subset = self._wanted
        return call_next(request)
