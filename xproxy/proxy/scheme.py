"""What came over TLS is addressed to https, also where the protocol does not say so on the wire (HTTP/1)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, final

import attrs

from xproxy.codecs.memo import IdentityMemo
from xproxy.model.message import RequestHead, Target
from xproxy.stream.exchange import Handler, Request, Response

SECURE: Final = "https"


@final
class Secured:
    """The outermost handler of a listener with TLS."""

    __slots__ = ("_handler", "_known")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        # A head that recurs stays one object, which is what others' memories go by.
        self._known: IdentityMemo[RequestHead] = IdentityMemo()

    def __call__(self, request: Request) -> Awaitable[Response]:
        """See Handler."""
        if request.connection.tls:
            head = request.head
            extra = head.extra
            if isinstance(extra, Target) and extra.scheme != SECURE:
                request.head = self._known.get(head) or self._known.put(head, _secured(head, extra))
        return self._handler(request)


def _secured(head: RequestHead, target: Target) -> RequestHead:
    return attrs.evolve(head, extra=attrs.evolve(target, scheme=SECURE))
