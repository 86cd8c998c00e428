"""``lines`` on the wire; its conformance is in ``tests/testing/test_conformance.py``."""

from __future__ import annotations

from xproxy.model.frames import GoAway, Head, Reply, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.fakes.lines import LINES, LinesCodec, status_of


def server(limits: Limits = DEFAULT_LIMITS) -> LinesCodec:
    return LINES.open(Role.SERVER, limits)


def test_a_request() -> None:
    wire = b"~q 7 a.B say 2 k%20k=v&e=%\nhi"
    (head,) = server().receive(wire)
    assert isinstance(head, Head)
    assert head.message == RequestHead(
        service="a.B", method="say", headers=Headers((("k k", "v"), ("e", "")))
    )
    assert (head.stream_id, head.data, head.end) == (7, b"hi", True)
    assert LINES.open(Role.CLIENT, DEFAULT_LIMITS).send(Head(8, head.message, b"hi", end=True)) == (
        b"~q 8 a.B say 2 k%20k=v&e=%\nhi"
    )


def test_a_local_reply_has_the_number_of_its_status() -> None:
    reply = ResponseHead(status=Status.NOT_FOUND)
    assert server().send(Head(7, reply, b"", end=True)) == b"~s 7 5 0 -\n"
    assert status_of(5) is Status.NOT_FOUND
    assert status_of(99) is Status.UNKNOWN


def test_heartbeat_and_goodbye() -> None:
    assert server().receive(b"~h\n~H\n~g\n") == [Reply(b"~H\n"), GoAway()]


def test_limits_and_nonsense_are_violations() -> None:
    small = Limits(max_head_bytes=20, max_message_bytes=9, max_headers=1)
    for wire in (
        b"~q 1 a b 10 -\n",
        b"~q 1 " + b"a" * 20,
        b"~q 1 a b 0 a=b&c=d\n",
        b"~q 1 a b +1 -\n",
        b"~x\n",
        b"q",
    ):
        frames = server(small).receive(wire)
        assert [type(frame) for frame in frames] == [Violation], wire
