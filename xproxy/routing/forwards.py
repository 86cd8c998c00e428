"""Max-Forwards: how many proxies an OPTIONS or TRACE may still pass (RFC 9110 §7.6.2)."""

from __future__ import annotations

from typing import Final

from xproxy.model.errors import Unsupported
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import Request, Response, local_response

METHODS: Final = frozenset({"OPTIONS", "TRACE"})
"""The field means nothing in requests with another method."""
MOST: Final = 10**9 - 1
"""The largest number sent on: a larger one is cut down to it."""

_NAME: Final = "max-forwards"
_MOST_DIGITS: Final = 9


def count_forward(request: Request) -> Response | None:
    """Take one from the field of an OPTIONS or TRACE; at 0 return the answer, as the request goes no further.

    Without the field, or with one that is no number, nothing changes. Raises Unsupported for a TRACE at 0: its answer
    would hold what proxies on the way have added, and credentials (RFC 9110 §9.3.8).
    """
    headers = request.head.headers
    value = headers.get(_NAME)
    if value is None or not (value.isascii() and value.isdigit()):
        return None
    digits = value.lstrip("0")
    if digits:
        left = int(digits) - 1 if len(digits) <= _MOST_DIGITS else MOST
        request.head = request.head.with_headers(headers.set(_NAME, str(left)))
        return None
    if request.head.method == "TRACE":
        raise Unsupported("TRACE is not answered here, and Max-Forwards is 0")
    request.record.local = True
    request.record.detail = "max_forwards"
    return local_response(ResponseHead(status=Status.OK, extra=Local()))
