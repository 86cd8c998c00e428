"""What the three serialisations of Thrift have in common: the seam behind which binary, compact and JSON lie.

An encoding knows a message's head, the bytes of an exception, and where a struct ends; nothing of frames.
"""

from __future__ import annotations

import re
from typing import Final, Protocol, TypeAlias

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.slices import Work, at_once

CALL: Final = 1
REPLY: Final = 2
EXCEPTION: Final = 3
ONEWAY: Final = 4
LAST_KIND: Final = ONEWAY
"""Kinds of message, as all encodings number them (thrift: TMessageType)."""

MAX_NAME_BYTES: Final = 256
"""A method's name, with the service before it where there is one."""
MAX_DEPTH: Final = 64
"""Structs and containers inside one another, in what has to be walked."""
LOOKED_AT: Final = 4096
"""Bytes of a struct that are walked at a time, before others may have their turn: some 0.1 to 1 ms."""
MASK: Final = 0xFFFFFFFF
"""Sequence ids are 32 bits; here they are always unsigned."""

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")

HeadParts: TypeAlias = tuple[int, bytes, int, int]
"""Kind, name, sequence id, and where the struct begins."""


class Walker(Protocol):
    """Finds the end of a struct; resumable at any byte, and never looks at a byte twice but for a few."""

    pos: int
    """How far it came, in bytes from the start of the message. May lie beyond what there is: then it is skipping."""
    need: int
    """How many bytes of the message, at least, it takes to go on."""

    def walk(self, buffer: bytes | bytearray, base: int, size: int) -> bool:
        """Go on as far as ``buffer[:size]`` allows, the message beginning at ``base``; True: ``pos`` is the end.

        Raises Malformed.
        """
        ...


class Encoding(Protocol):
    """One serialisation. Stateless."""

    @property
    def family(self) -> str:
        """Structs of one family are the same bytes."""
        ...

    @property
    def tail(self) -> bytes:
        """What follows the struct in each message."""
        ...

    @property
    def empty(self) -> bytes:
        """A struct without fields."""
        ...

    def read_head(self, buffer: bytes, at: int, size: int) -> HeadParts | int:
        """Read the head that begins at ``at``; too short: how many bytes from there it takes. Raises Malformed."""
        ...

    def write_head(self, kind: int, name: bytes, seqid: int) -> bytes:
        """Write a message up to its struct."""
        ...

    def walker(self, pos: int, limit: int) -> Walker:
        """Start to walk the struct at ``pos`` of a message that may be ``limit`` bytes long."""
        ...

    def exception(self, code: int, text: str) -> bytes:
        """Write the struct of a TApplicationException."""
        ...

    def exception_code(self, data: bytes) -> int:
        """Return the type in the struct of a TApplicationException; 0 (unknown) where it cannot be read. Total."""
        ...

    def declared(self, data: bytes) -> bool:
        """Tell whether a reply's struct holds an exception that the interface declares. Total."""
        ...


def check_kind(kind: int) -> None:
    """Raise Malformed for what is no kind of message."""
    if not CALL <= kind <= LAST_KIND:
        raise Malformed(f"message type {kind}")


def check_name_length(length: int) -> None:
    """Raise Malformed for a name that is too long; before it is waited for."""
    if length > MAX_NAME_BYTES:
        raise Malformed(f"method name of {length} bytes, limit {MAX_NAME_BYTES}")


def is_name(name: bytes) -> bool:
    """Tell whether this is a name: any text, as services are called what their authors like; no control characters.

    ``user-service:get``, ``com.x.UserService$Iface:get`` and ``svc/v1:get`` are names in the field.
    """
    if name.isascii():
        return _CONTROL.search(name) is None
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(name) is None


def check_depth(depth: int) -> None:
    """Raise Malformed for what is nested too deep."""
    if depth > MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")


def is_struct(encoding: Encoding, data: bytes) -> bool:
    """Tell whether ``data`` is exactly one struct. What is sent without a frame must be: else it hides a message."""
    return at_once(looked_through(encoding, data))


def looked_within(encoding: Encoding, data: bytes, most: int) -> Work[bool]:
    """Tell the same; False also where it takes looking at more than ``most`` bytes, longer strings not counted."""
    work = looked_through(encoding, data)
    left = most
    while True:
        try:
            next(work)
        except StopIteration as done:
            return bool(done.value)
        left -= LOOKED_AT
        if left < 0:
            return False
        yield


def looked_through(encoding: Encoding, data: bytes) -> Work[bool]:
    """Tell the same, and pause after each ``LOOKED_AT`` bytes that were looked at."""
    size = len(data)
    walker = encoding.walker(0, size)
    end = 0
    try:
        while True:
            end = min(max(end, walker.pos) + LOOKED_AT, size)
            if walker.walk(data, 0, end):
                return walker.pos == size
            if end == size:
                return False
            yield
    except Malformed:
        return False
