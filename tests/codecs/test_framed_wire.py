"""The wire of a declaration: its bytes, and that no function of the author's can break its promises."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pytest

from tests.codecs.declared import KINDS, PLAIN, REST, TOTAL, request
from xproxy.codecs.framed_wire import FramedExtra
from xproxy.codecs.length_framed import LengthFramed
from xproxy.codecs.message_wire import Kind
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head, Reply, Reset, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role


def test_the_head_is_what_was_declared() -> None:
    head = RequestHead(service="a", method="b", headers=Headers([("k", "v")]))
    block = b"service=a\nmethod=b\nk=v\n"
    assert request(PLAIN, -2, head, b"body") == (
        struct.pack("<B3sHBHiII", 7, b"PL!", 0, 1, 0, -2, len(block), len(block) + 4)
        + block
        + b"body"
    )
    timed = RequestHead(service="", method="", deadline=0.5)
    assert (
        request(TOTAL, 257, timed, b"xy") == struct.pack(">HcBBBI", 12, b"T", 1, 0, 1, 500) + b"xy"
    )


def test_own_fields_are_passed_on_and_copied_into_answers() -> None:
    server, client = (PLAIN.open(role, DEFAULT_LIMITS) for role in (Role.SERVER, Role.CLIENT))
    raw = bytearray(request(PLAIN, 5, RequestHead(service="a", method="b")))
    raw[0], raw[4:6] = 9, b"\x34\x12"
    (frame,) = server.receive(bytes(raw))
    assert isinstance(frame, Head)
    assert isinstance(frame.message.extra, FramedExtra)
    assert frame.message.extra.own == (9, 0x1234)
    changed = attrs.evolve(
        frame, message=attrs.evolve(frame.message, headers=Headers([("n", "1")]))
    )
    assert client.send(changed)[:6] == bytes(raw)[:6]
    answer = server.send(Head(5, ResponseHead(status=Status.OK), b"", end=True))
    assert answer[:6] == bytes(raw)[:6]


def test_an_answer_of_another_dialect_is_written_anew() -> None:
    server, client = (PLAIN.open(role, DEFAULT_LIMITS) for role in (Role.SERVER, Role.CLIENT))
    answer = bytearray(struct.pack("<B3sHBHiII", 9, b"PL!", 1, 2, 0, 5, 0, 2) + b"ok")
    (frame,) = client.receive(bytes(answer))
    assert isinstance(frame, Head)
    server.receive(request(PLAIN, 5, RequestHead(service="", method="")))
    assert server.send(attrs.evolve(frame, stream_id=5)) == (
        struct.pack("<B3sHBHiII", 7, b"PL!", 0, 2, 0, 5, 0, 2) + b"ok"
    )


@pytest.mark.parametrize("status", list(Status))
def test_every_status_can_be_said(status: Status) -> None:
    server, client = (TOTAL.open(role, DEFAULT_LIMITS) for role in (Role.SERVER, Role.CLIENT))
    server.receive(request(TOTAL, 1, RequestHead(service="", method="")))
    (got,) = client.receive(server.send(Head(1, ResponseHead(status=status), b"", end=True)))
    assert isinstance(got, Head)
    assert isinstance(got.message, ResponseHead)
    folded = {Status.OK: 0, Status.UNAVAILABLE: 2, Status.NOT_FOUND: 2, Status.UNIMPLEMENTED: 2}
    folded |= {Status.DEADLINE_EXCEEDED: 2, Status.RESOURCE_EXHAUSTED: 2}
    assert got.message.native_status == folded.get(status, 1)


def test_native_statuses_are_total() -> None:
    assert [TOTAL.status_of(n) for n in (0, 200, 1, 9, -1)] == [
        Status.OK,
        Status.OK,
        Status.INTERNAL,
        Status.UNKNOWN,
        Status.UNKNOWN,
    ]


def crime(plugin: LengthFramed, data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    frame = plugin.open(Role.SERVER, limits).receive(data)[-1]
    if isinstance(frame, Reply):
        # A request that fails alone is answered without a text here; of an answer it is said what is wrong.
        frame = plugin.open(Role.CLIENT, limits).receive(data[:6] + b"\2" + data[7:])[-1]
        assert isinstance(frame, Reset)
        return frame.detail
    assert isinstance(frame, Violation), frame
    return frame.detail


def head_of(kind: int = 1, headers: int = 0, rest: int = 0) -> bytes:
    return struct.pack("<B3sHBHiII", 7, b"PL!", 0, kind, 0, 1, headers, rest)


def test_a_peers_crime_is_a_violation() -> None:
    assert crime(PLAIN, b"\7PX") == "plain: wrong magic number"
    assert crime(PLAIN, b"\7PX" + bytes(40)) == "plain: wrong magic number"
    assert crime(PLAIN, head_of(kind=99)) == "plain: kind 99"
    assert crime(PLAIN, head_of(headers=5, rest=4)) == "plain: the lengths contradict each other"
    assert crime(PLAIN, head_of(rest=2**32 - 1)).endswith("limit 16777216")
    assert crime(PLAIN, head_of(headers=70_000, rest=70_000)).endswith("limit 65536")
    assert crime(TOTAL, struct.pack(">HcBBBI", 3, b"T", 1, 0, 1, 0)).endswith("each other")
    many = b"a=b\n" * 5
    data = head_of(headers=len(many), rest=len(many)) + many
    assert crime(PLAIN, data, Limits(max_headers=4)) == "plain: more than 4 headers"


def raising(error: Callable[[], BaseException]) -> Callable[[bytes], Iterable[tuple[str, str]]]:
    def read_headers(block: bytes) -> Iterable[tuple[str, str]]:
        yield "one", "good"
        raise error()

    return read_headers


@pytest.mark.parametrize(
    "error",
    [
        lambda: ValueError("with the secret payload"),
        lambda: KeyError("secret"),
        lambda: IndexError("secret"),
        lambda: struct.error("secret"),
        lambda: UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret"),
        lambda: OverflowError("secret"),
        lambda: TypeError("secret"),
    ],
)
def test_what_an_authors_function_raises_is_the_peers_crime(
    error: Callable[[], BaseException],
) -> None:
    plugin = attrs.evolve(PLAIN, read_headers=raising(error))
    detail = crime(plugin, head_of(headers=2, rest=2) + b"xx")
    assert detail.startswith("plain: header block cannot be read (")
    assert "secret" not in detail


def test_what_cannot_be_written_is_our_own_mistake() -> None:
    for head in (
        RequestHead(service="a\nb", method=""),
        RequestHead(service="\ud800", method=""),
    ):
        with pytest.raises(LocalProtocolError, match="plain cannot write"):
            request(PLAIN, 1, head)
    with pytest.raises(LocalProtocolError, match="total cannot write"):
        request(TOTAL, 1, RequestHead(service="", method=""), bytes(70_000))
    with pytest.raises(LocalProtocolError, match="no oneway"):
        request(TOTAL, 1, RequestHead(service="", method="", oneway=True))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"head": {"magic": "1s", "kind": "B", "id": "I", "body": "I"}}, "no 'status'"),
        ({"head": {k: v for k, v in REST.items() if k != "rest"}}, "one of 'body'"),
        ({"head": {**REST, "body": "I"}}, "one of 'body'"),
        ({"magic": b"PL"}, "magic is 2 bytes, its field '3s'"),
        ({"kinds": {1: Kind.REQUEST}}, "no RESPONSE"),
        ({"kinds": {**KINDS, 3: Kind.HEARTBEAT}}, "without its acknowledgement"),
        ({"kinds": {**KINDS, 3: Kind.REFUSED}}, "refused by its kind"),
        ({"statuses": {0: Status.OK}}, "OK and another"),
        ({"head": {**REST, "own": "Q"}}, "own fields of 11 bytes, limit 7"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(
    wrong: dict[str, Any],  # Any: one field of LengthFramed, whichever
    complaint: str,
) -> None:
    with pytest.raises(ValueError, match=complaint):
        attrs.evolve(PLAIN, **wrong)
