"""What a supervisor and its workers say to each other: one JSON object a datagram, with descriptors beside it.

A datagram of a SEQPACKET socket is whole or not there. Both ends are of one user and one program, but perhaps of two
versions of it: who receives checks what it needs, and whatever is wrong is ValueError.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final

VERSION: Final = 1
"""Of what is said here; stands in the first message of either side."""
STATE_VERSION: Final = 1
"""Of what one supervisor leaves to the next. It stays where a field is added that others do well without."""
MOST_BYTES: Final = 65_536
"""Of one message."""
MOST_DESCRIPTORS: Final = 64
"""Beside one message; the kernel would take 253."""

_BESIDE: Final = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)

SUPERVISOR: Final = "XPROXY_SUPERVISOR"
"""Environment of a worker: the descriptor of its end."""
TAKEOVER: Final = "XPROXY_TAKEOVER"
"""Environment of a worker that takes the place of another: the descriptor of the channel to that one."""
RESUME: Final = "XPROXY_RESUME"
"""Environment of a supervisor that goes on for another program: the descriptor of what that one knew, or ``TRY``."""
TRY: Final = "try"
"""It is only to try; what was known comes at ``SUPERVISOR``."""
NOT_RESUMED: Final = "XPROXY_NOT_RESUMED"
"""Environment of a supervisor that goes on again, as the next program could not: why."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends; neither blocks. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def pack(message: Mapping[str, object]) -> bytes:
    """Return a message as bytes. Raises ValueError above ``MOST_BYTES``."""
    packed = json.dumps(message, separators=(",", ":")).encode()
    if len(packed) > MOST_BYTES:
        raise ValueError(f"a message of {len(packed)} bytes, the limit is {MOST_BYTES}")
    return packed


def unpack(data: bytes) -> dict[str, object]:
    """Return a message. Raises ValueError."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"no message: {exc}") from exc
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ValueError("a message is an object that says its kind")
    return message


def send(
    sock: socket.socket, message: Mapping[str, object], descriptors: Sequence[int] = ()
) -> None:
    """Send a message. Raises BlockingIOError, other OSErrors, ValueError for one that is too long."""
    send_packed(sock, pack(message), descriptors)


def send_packed(sock: socket.socket, packed: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send what ``pack`` has returned. Raises OSError."""
    if descriptors:
        socket.send_fds(sock, [packed], list(descriptors), socket.MSG_NOSIGNAL)
    else:
        sock.send(packed, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[dict[str, object], list[int]] | None:
    """Return the next message with its descriptors, which are the caller's to close; None at the end.

    Raises BlockingIOError, ValueError for what is no message (its descriptors are closed), other OSErrors.
    """
    while True:
        try:
            # socket.recv_fds of Python 3.11 ignores its flags.
            data, beside, flags, _ = sock.recvmsg(MOST_BYTES, _BESIDE, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            continue  # the other end is gone, but what it has said before is still to be read
        break
    found = _descriptors(beside)
    if not data:
        return None
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise ValueError("a message did not arrive whole")
        return unpack(data), found
    except ValueError:
        close_all(found)
        raise


def _descriptors(beside: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        os.close(descriptor)


def text(message: Mapping[str, object], name: str, default: str | None = None) -> str:
    """Return a field that is text. Raises ValueError."""
    value = message.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{message.get('kind')}: {name} is no text")
    return value


def number(message: Mapping[str, object], name: str, default: int | None = None) -> int:
    """Return a field that is a whole number from 0 up. Raises ValueError."""
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{message.get('kind')}: {name} is no number")
    return value


def flag(message: Mapping[str, object], name: str) -> bool:
    """Return a field that is true or false; one that is not there is false."""
    return message.get(name) is True
