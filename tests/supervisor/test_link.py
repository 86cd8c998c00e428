"""The supervisor's end of a control socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from xproxy.supervisor import messages
from xproxy.supervisor.link import MOST_WAITING, Link
from xproxy.supervisor.loop import Loop


@attrs.define(eq=False)
class Side:
    loop: Loop
    link: Link
    theirs: socket.socket
    heard: list[dict[str, Any]]
    lost: list[str]


@pytest.fixture
def side() -> Iterator[Side]:
    loop = Loop()
    ours, theirs = messages.pair()
    heard: list[dict[str, Any]] = []
    lost: list[str] = []

    def hear(message: dict[str, object], found: list[int]) -> None:
        messages.close_all(found)
        if message["kind"] == "wrong":
            raise ValueError("it is wrong")
        heard.append(message)
        if message["kind"] == "stop":
            loop.stop()

    def lose(why: str) -> None:
        lost.append(why)
        loop.stop()

    loop.after(30.0, lambda: pytest.fail("nothing ended the loop"))
    link = Link(loop, ours, hear, lose)
    yield Side(loop, link, theirs, heard, lost)
    link.close()
    theirs.close()
    loop.close()


def test_it_hears_and_says(side: Side) -> None:
    messages.send(side.theirs, {"kind": "stop"}, [0])
    side.loop.run()
    assert side.heard == [{"kind": "stop"}]
    side.link.say({"kind": "start"}, [0])
    received = messages.receive(side.theirs)
    assert received is not None
    assert received[0] == {"kind": "start"}
    messages.close_all(received[1])


def test_what_cannot_be_sent_waits_in_order_with_its_descriptors(side: Side) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for n in range(400):
        side.link.say({"kind": "a", "n": n, "filling": "x" * 2000}, [0])
    found: list[object] = []

    def read() -> None:
        received = messages.receive(side.theirs)
        assert received is not None
        found.append(received[0]["n"])
        messages.close_all(received[1])
        if len(found) == 400:
            side.loop.stop()

    side.loop.watch(side.theirs, read)
    side.loop.run()
    side.loop.forget(side.theirs)
    assert found == list(range(400))
    assert len(os.listdir("/proc/self/fd")) == before
    assert side.link.open


def test_one_who_does_not_read_is_lost(side: Side) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(MOST_WAITING + 500):
        side.link.say({"kind": "a", "filling": "x" * 5000}, [0])
    assert side.lost == [f"it has not read {MOST_WAITING} messages"]
    assert not side.link.open
    assert len(os.listdir("/proc/self/fd")) == before - 1
    side.link.say({"kind": "b"})


@pytest.mark.parametrize("data", [b"nonsense", b'{"kind":"wrong"}'])
def test_who_says_nonsense_is_lost(data: bytes, side: Side) -> None:
    side.theirs.send(data)
    side.loop.run()
    (why,) = side.lost
    assert why
    assert not side.link.open


def test_the_end_is_no_reason(side: Side) -> None:
    side.theirs.close()
    side.loop.run()
    assert side.lost == [""]


def test_what_one_said_before_it_ended_is_heard_to_the_end(side: Side) -> None:
    for n in range(100):
        messages.send(side.theirs, {"kind": "a", "n": n})
    side.theirs.close()
    side.link.finish()
    assert [message["n"] for message in side.heard] == list(range(100))


def test_one_that_pauses_reads_nothing_and_goes_on_where_it_was(side: Side) -> None:
    side.link.pause()
    messages.send(side.theirs, {"kind": "stop"})
    side.loop.after(0.0, side.loop.stop)
    side.loop.run()
    assert not side.heard
    with socket.socket(fileno=os.dup(side.link.descriptor)) as copy:
        data = copy.recv(9999, socket.MSG_PEEK)
    assert messages.unpack(data) == {"kind": "stop"}, "whoever has a copy could read it"
    side.loop._over = False
    side.link.go_on()
    side.link.go_on()
    side.loop.run()
    assert side.heard == [{"kind": "stop"}]


def test_what_waits_is_taken_over_from_another(side: Side) -> None:
    ours, theirs = messages.pair()
    waiting = [(messages.pack({"kind": "a"}), [os.dup(0)])]
    link = Link(side.loop, ours, lambda *_: None, lambda _: None, waiting)
    assert (link.open, link.descriptor) == (True, ours.fileno())
    side.loop.watch(theirs, side.loop.stop)
    side.loop.run()
    side.loop.forget(theirs)
    received = messages.receive(theirs)
    assert received is not None
    assert received[0] == {"kind": "a"}
    assert len(received[1]) == 1
    messages.close_all(received[1])
    assert not link.waiting
    link.close()
    assert link.descriptor == -1
    theirs.close()
