"""Frames: the one vocabulary between every codec and the rest of the proxy (design idea: h11's and h2's events).

All are frozen and slotted. A message that arrived whole is one frame, ``Head(data=…, end=True)``.
Stream ids are local to a connection. A peer's requests and our own requests on one connection have separate id
spaces; the kind of ``Head.message`` says which is meant. A codec with pieces of bodies (sharing FRAMES) keeps
its ids unique over both.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status

CONNECTION: Final = 0
"""The stream id that means the connection as a whole."""


@attrs.frozen
class Origin:
    """The raw bytes of a message that arrived whole, for sending it on as it is.

    A codec may copy ``raw`` (and patch the id) only if ``codec`` is its own name and the frame to send still holds
    the very objects ``message`` and ``data``: unmodified means identical.
    """

    codec: str
    raw: bytes
    message: RequestHead | ResponseHead
    data: bytes


@attrs.frozen
class Head:
    """The start of a message; with ``end`` the whole of it."""

    stream_id: int
    message: RequestHead | ResponseHead
    data: bytes = b""
    """The first piece of the body, or all of it."""
    end: bool = False
    """No Data and no Trailers follow."""
    interim: bool = False
    """A response before the response (1xx, RFC 9110 §15.2)."""
    origin: Origin | None = attrs.field(default=None, eq=False, repr=False)


def whole(
    stream_id: int,
    message: RequestHead | ResponseHead,
    data: bytes,
    origin: Origin | None = None,
) -> Head:
    """Return ``Head(stream_id, message, data, end=True, origin=origin)``, in four fifths of the time.

    Every message that comes whole is made by this twice; see ``RequestHead.adding`` on why it is slot by slot.
    """
    head = _new_head(Head)
    _set_stream_id(head, stream_id)
    _set_message(head, message)
    _set_data(head, data)
    _set_end(head, True)
    _set_interim(head, False)
    _set_origin(head, origin)
    return head


_new_head: Final = object.__new__
_set_stream_id: Final = Head.__dict__["stream_id"].__set__
_set_message: Final = Head.__dict__["message"].__set__
_set_data: Final = Head.__dict__["data"].__set__
_set_end: Final = Head.__dict__["end"].__set__
_set_interim: Final = Head.__dict__["interim"].__set__
_set_origin: Final = Head.__dict__["origin"].__set__


@attrs.frozen
class Data:
    """A piece of a message body, in the order it was sent. May be empty only when ``end`` is true."""

    stream_id: int
    data: bytes
    """Body bytes without transfer framing (RFC 9112 §7.1)."""
    end: bool = False
    """No more Data, and no Trailers, follow on this stream in this direction."""


@attrs.frozen
class Trailers:
    """Fields after the body; ends the message."""

    stream_id: int
    headers: Headers
    status: Status | None = None
    """How the call ended, where a protocol says so only here; None: the head's status stands."""


@attrs.frozen
class Reset:
    """The stream ends here, unfinished, in both directions."""

    stream_id: int
    status: Status
    refused: bool = False
    """The peer says that it never looked at the request: it may be sent again, whatever it asks for."""
    detail: str = ""
    """What is wrong with the answer that a request of ours got, which nobody can read; empty: the peer ended it."""


@attrs.frozen
class Reply:
    """Bytes owed to the peer by the codec itself: acknowledgements, heartbeat answers. Send them in order."""

    data: bytes
    refused: ResponseHead | None = attrs.field(default=None, eq=False)
    """They answer (or would) a request that was refused before it was a message, with this: for counters and logs."""


@attrs.frozen
class Credit:
    """We may send again on this stream, or on all (``CONNECTION``)."""

    stream_id: int = CONNECTION


@attrs.frozen
class GoAway:
    """No new streams will be served on this connection; those up to ``last_stream_id`` are still answered.

    A serial codec gives it when the connection cannot be used again after the message just finished.
    """

    last_stream_id: int | None = None
    """None: all that were begun."""
    status: Status = Status.OK


@attrs.frozen
class Violation:
    """The peer broke the protocol. Always the last frame a codec gives."""

    detail: str
    """What was wrong, the value and the limit; never a peer's payload."""
    farewell: bytes = b""
    """Bytes to send before closing, in the peer's own protocol."""
    reason: Status = Status.INVALID_ARGUMENT
    limit: str = ""
    """The bound that the peer exceeded, if it was one: an option's or a limit's name. A codec has a few of them."""
    native_status: int | None = None
    """The code that ``farewell`` tells a client about a request of its own; None: it tells none."""


Frame: TypeAlias = Head | Data | Trailers | Reset | Reply | Credit | GoAway | Violation
