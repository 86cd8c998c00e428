"""What a link knows of its streams."""

from __future__ import annotations

import pytest

from xproxy.codecs.relay.codec import opened
from xproxy.connection.shared.link import LINK_LIMITS, Link, Relayed
from xproxy.connection.standing import RelayedStream
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

OK = ResponseHead(status=Status.OK)


def link(unsent: bytes = b"") -> Link:
    codec = opened(Role.CLIENT, LINK_LIMITS)
    codec.begin(1, complete=False, begun=False)
    return Link(None, codec, unsent)


@pytest.mark.parametrize(
    ("waiting", "ends"),
    [
        ((), False),
        ((Head(1, OK, b"", False),), False),
        ((Head(1, OK, b"x", True),), True),
        ((Head(1, OK, b"", False), Data(1, b"x")), False),
        ((Data(1, b"x"), Data(1, b"", True)), True),
        ((Data(1, b"x"), Trailers(1, Headers(()))), True),
        ((Data(1, b"x"), Reset(1, Status.CANCELLED)), True),
    ],
)
async def test_whether_the_end_of_an_answer_waits(waiting: tuple[Frame, ...], ends: bool) -> None:
    relayed = Relayed(link(), RelayedStream(id=1, complete=False, begun=False))
    relayed.waiting.extend(waiting)
    assert relayed.ends is ends


async def test_a_stream_is_written_down_as_it_is_now() -> None:
    relayed = Relayed(link(), RelayedStream(id=1, complete=False, begun=False))
    assert not relayed.answered
    relayed.complete = relayed.begun = True
    assert relayed.state == RelayedStream(id=1, complete=True, begun=True)


async def test_a_stream_that_its_link_does_not_know_is_answered() -> None:
    assert Relayed(link(), RelayedStream(id=3, complete=True, begun=True)).answered


async def test_what_another_process_could_not_send_goes_first() -> None:
    found = link(b"the rest")
    found.outbox.put(b" and more")
    assert found.outbox.unsent() == b"the rest and more"
    assert found.movable is None
