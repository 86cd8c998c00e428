"""Two protocols for the tests of ``length_framed``: one with everything declared, one with the least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xproxy.codecs.length_framed import LengthFramed
from xproxy.codecs.message_wire import Kind
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role


def read_lines(block: bytes) -> Iterable[tuple[str, str]]:
    for line in block.decode().splitlines():
        name, _, value = line.partition("=")
        yield name, value


def write_lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    pairs = list(pairs)
    if any("\n" in text or "=" in text for pair in pairs for text in pair):
        raise ValueError("a line break or = in a header")
    return "".join(f"{name}={value}\n" for name, value in pairs).encode()


KINDS = {1: Kind.REQUEST, 2: Kind.RESPONSE}
ALL_KINDS = {
    **KINDS,
    3: Kind.ONEWAY,
    4: Kind.HEARTBEAT,
    5: Kind.HEARTBEAT_ACK,
    6: Kind.GOAWAY,
}
STATUSES = {0: Status.OK, 200: Status.OK, 1: Status.INTERNAL, 2: Status.UNAVAILABLE}
REST: Mapping[str, str] = {
    "version": "B",
    "magic": "3s",
    "serial": "H",
    "kind": "B",
    "status": "H",
    "id": "i",
    "headers": "I",
    "rest": "I",
}
PLAIN = LengthFramed(
    name="plain",
    magic=b"PL!",
    head=REST,
    kinds=ALL_KINDS,
    statuses=STATUSES,
    read_headers=read_lines,
    write_headers=write_lines,
    defaults={"version": 7},
    order="<",
    reverse=True,
)
TOTAL = LengthFramed(
    name="total",
    magic=b"T",
    head={"total": "H", "magic": "1s", "kind": "B", "status": "B", "id": "B", "timeout": "I"},
    kinds=KINDS,
    statuses=STATUSES,
)


def request(plugin: LengthFramed, stream_id: int, head: RequestHead, data: bytes = b"") -> bytes:
    return plugin.open(Role.CLIENT, DEFAULT_LIMITS).send(Head(stream_id, head, data, end=True))
