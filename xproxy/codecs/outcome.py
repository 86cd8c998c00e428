"""How a call ended, where the head of its answer does not say it: for whoever counts and logs it."""

from __future__ import annotations

from xproxy.codecs.grpc.call import NATIVE, dialect_of_fields
from xproxy.codecs.grpc.status import status_in
from xproxy.model.frames import Trailers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status


def call_status(head: ResponseHead, trailers: Trailers | None) -> Status:
    """Return how a call ended, of whose answer this is the head, and these are the trailers; None: it has none."""
    return without_trailers(head) if trailers is None else trailers.status or head.status


def without_trailers(head: ResponseHead) -> Status:
    """Return the outcome of a call whose answer has ended without trailers.

    gRPC says its outcome there, if not in the head: without it nobody knows what became of the call
    (grpc/doc/PROTOCOL-HTTP2.md: "Trailers must be sent"; clients make UNKNOWN of it).
    """
    if (
        head.native_status == 200
        and dialect_of_fields(head.headers.pairs) == NATIVE
        and status_in(head.headers) is None
    ):
        return Status.UNKNOWN
    return head.status
