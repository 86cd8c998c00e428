"""Replies made here, as callers understand them: HTTP 200, and the outcome among the headers ("trailers-only")."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.grpc.status import STATUS, local_status
from xproxy.codecs.grpc.text import MESSAGE, encode_text
from xproxy.model.headers import Headers
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status

HTTP_CODE: Final = 200
"""The code of every reply to a call: the outcome has a field of its own."""
_MESSAGE_CHARS: Final = 1024
_OF_A_BODY: Final = frozenset({"content-type", "content-length", "content-encoding"})


def reply(head: ResponseHead, dialect: str) -> ResponseHead:
    """Return the head that says to a caller what ``head``, a local reply, means. It has no body."""
    outcome = local_status(head)
    fields = [pair for pair in head.headers.pairs if pair[0].lower() not in _OF_A_BODY]
    fields += (("content-type", f"application/{dialect}"), (STATUS, str(outcome.value)))
    detail = head.extra.detail if isinstance(head.extra, Local) else ""
    if detail and outcome is not Status.OK:
        fields.append((MESSAGE, encode_text(detail[:_MESSAGE_CHARS])))
    return ResponseHead(status=outcome, native_status=HTTP_CODE, headers=Headers(fields))
