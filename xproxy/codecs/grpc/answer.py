"""Answers to calls, as a proxy on the way sees them: what became of the call."""

from __future__ import annotations

import attrs

from xproxy.codecs.grpc.call import dialect_of_fields
from xproxy.codecs.grpc.status import status_in, status_of_http
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status


def is_native(head: ResponseHead) -> bool:
    """Tell whether a response is gRPC's own: its body holds messages, its outcome is in its headers or trailers."""
    return head.native_status == 200 and bool(dialect_of_fields(head.headers.pairs))


def to_caller(head: ResponseHead) -> ResponseHead:
    """Return a response of the HTTP family with the status that it has for a caller.

    The headers say it (``grpc-status``), or trailers will: until then it is OK. An answer that is not gRPC's own
    means what its code means to a caller.
    """
    said = status_in(head.headers)
    if said is None:
        said = Status.OK if is_native(head) else status_of_http(head.native_status or 0)
    return head if said is head.status else attrs.evolve(head, status=said)
