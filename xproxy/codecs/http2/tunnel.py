"""Upgrades over a stream (RFC 8441): CONNECT for a protocol, which 200 grants, where HTTP/1.1 has GET and 101.

Everybody else knows the one form only (``Target.upgrade``, 101): what is different on the wire stays in here.
"""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.http_status import local_code
from xproxy.codecs.http_upgrade import ACCEPT, KEY, without
from xproxy.model.message import SWITCHING, Local, Reason, ResponseHead
from xproxy.model.status import Status

_DROPPED: Final = frozenset({KEY, ACCEPT, "content-length"})
_UNGRANTED: Final = ResponseHead(
    status=Status.UNAVAILABLE,
    extra=Local(
        detail="the upstream answered the request and did not grant the upgrade",
        reason=Reason.UPSTREAM_PROTOCOL,
    ),
)


def granted_on_wire(message: ResponseHead) -> ResponseHead:
    """Return the answer to a CONNECT for a protocol as HTTP/2 says it.

    Any 2xx would grant it there (RFC 8441 §5), so an ordinary one, to a request that was never made, becomes 502.
    """
    code = message.native_status
    if code is None:
        code = local_code(message)
    if code == SWITCHING:
        return attrs.evolve(message, native_status=200, headers=without(message.headers, _DROPPED))
    return _UNGRANTED if 200 <= code < 300 else message


def ungranted(message: ResponseHead) -> bool:
    """Whether this answer stands for one whose body must not be sent."""
    return message is _UNGRANTED


def granted(message: ResponseHead) -> ResponseHead:
    """Return the 2xx that a server granted a CONNECT for a protocol with, as everybody else says it."""
    return attrs.evolve(
        message, native_status=SWITCHING, headers=without(message.headers, _DROPPED)
    )
