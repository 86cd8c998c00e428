"""xs1: an 18-byte head, then headers, then the body. All numbers are big-endian.

magic ``78 01`` · kind 1 · status 1 · id 4 · timeout in ms 4 · header length 2 · body length 4
"""

from collections.abc import Iterable, Iterator

from xproxy.api import Kind, LengthFramed, Status


def read_headers(block: bytes) -> Iterator[tuple[str, str]]:
    """Split the header block: 1-byte key length, key, 2-byte value length, value, again and again."""
    at = 0
    while at < len(block):
        key, at = read_text(block, at, 1)
        value, at = read_text(block, at, 2)
        yield key, value


def read_text(block: bytes, at: int, width: int) -> tuple[str, int]:
    """Read a text behind its length; return it and where it ends."""
    start = at + width
    end = start + int.from_bytes(block[at:start])
    if end > len(block):
        raise ValueError("a header is longer than the block")
    return block[start:end].decode(), end


def write_headers(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Make a header block."""
    return b"".join(write_text(k, 1) + write_text(v, 2) for k, v in pairs)


def write_text(text: str, width: int) -> bytes:
    """Write a text behind its length."""
    raw = text.encode()
    return len(raw).to_bytes(width) + raw


PLUGIN = LengthFramed(
    name="xs1",
    magic=b"x\x01",
    head={
        "magic": "2s",
        "kind": "B",
        "status": "B",
        "id": "I",
        "timeout": "I",
        "headers": "H",
        "body": "I",
    },
    kinds={
        0: Kind.REQUEST,
        1: Kind.RESPONSE,
        2: Kind.ONEWAY,
        3: Kind.HEARTBEAT,
        4: Kind.HEARTBEAT_ACK,
        5: Kind.GOAWAY,
    },
    statuses={
        0: Status.OK,
        1: Status.DEADLINE_EXCEEDED,
        2: Status.RESOURCE_EXHAUSTED,
        3: Status.UNAVAILABLE,
        4: Status.INVALID_ARGUMENT,
        5: Status.INTERNAL,
    },
    read_headers=read_headers,
    write_headers=write_headers,
)
