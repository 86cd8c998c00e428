"""What another supervisor is given, and when it has it; with another process: test_successor.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import attrs
import pytest

from xproxy.supervisor import memory, messages, succession
from xproxy.supervisor.control import Client
from xproxy.supervisor.link import Link
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.renewal import Renewed, Written
from xproxy.supervisor.succession import Succession
from xproxy.supervisor.table import Worker


@attrs.define(eq=False)
class Side:
    """Ours, with the other end."""

    loop: Loop
    client: Client
    theirs: socket.socket
    over: list[Renewed] = attrs.field(factory=list)

    def succession(self, written: Written) -> Succession:
        def over(renewed: Renewed) -> None:
            self.over.append(renewed)
            self.loop.stop()

        return Succession(self.loop, self.client, lambda: written, over)

    def hear(self) -> tuple[dict[str, object], list[int]]:
        heard = messages.receive(self.theirs)
        assert heard is not None
        return heard


@pytest.fixture
def side() -> Iterator[Side]:
    loop = Loop()
    client = Client(loop, lambda _: None)
    ours, theirs = messages.pair()
    client.link = Link(loop, ours, lambda *_: None, lambda _: None)
    with theirs:
        yield Side(loop, client, theirs)
    if client.link is not None:
        client.link.close()
    loop.close()


def test_it_is_given_everything_and_is_not_over_before_it_says_so(side: Side) -> None:
    some = [os.open(os.devnull, os.O_RDONLY) for _ in range(messages.MOST_DESCRIPTORS + 1)]
    found = side.succession(Written(b"{}", some))
    found.give()
    message, state = side.hear()
    assert message["kind"] == "state"
    assert memory.get(state[0]) == b"{}"
    messages.close_all(state)
    for expected in (some[:-1], some[-1:]):
        message, copies = side.hear()
        assert (message["kind"], message["numbers"]) == ("descriptors", expected)
        assert len(copies) == len(expected)
        messages.close_all(copies)
    assert side.hear()[0]["kind"] == "resume"
    assert not side.over
    found.resumed()
    found.resumed()
    assert side.over == [Renewed("renewed")]
    messages.close_all(some)


def test_one_that_does_not_go_on(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "RESUME_SECONDS", 0.05)
    found = side.succession(Written(b"{}", []))
    found.give()
    side.loop.run()
    assert side.over == [Renewed("kept", "the other supervisor did not go on within 0.05 s")]
    found.resumed()  # too late
    assert len(side.over) == 1


def test_one_that_has_gone(side: Side) -> None:
    assert side.client.link is not None
    side.client.link.close()
    side.client.link = None
    found = side.succession(Written(b"{}", []))
    found.give()
    assert side.over == [Renewed("kept", "the other supervisor has gone")]
    ours, theirs = messages.pair()
    with ours, theirs, pytest.raises(OSError, match="has gone"):
        found.start(Worker(1, 0, 2, 1), ours, None)


def test_too_much_to_be_given(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_BYTES", 1)
    side.succession(Written(b"{}", [])).give()
    assert "it cannot be given everything" in side.over[0].why


def test_workers_are_started_and_ended_there(side: Side) -> None:
    found = side.succession(Written(b"{}", []))
    worker = Worker(7, 0, 2, 1)
    ours, theirs = messages.pair()
    with ours, theirs:
        found.start(worker, theirs, None)
        message, ends = side.hear()
        assert (message["kind"], message["worker"], len(ends)) == ("start", 7, 1)
        messages.close_all(ends)
        found.start(worker, theirs, ours)
        _, ends = side.hear()
        assert len(ends) == 2
        messages.close_all(ends)
    found.started({"kind": "started", "worker": 7, "pid": 99})
    found.started({"kind": "started", "worker": 8, "pid": 98})  # which is none of these
    assert worker.pid == 99
    found.kill(worker, 9)
    assert side.hear()[0] == {"kind": "kill", "worker": 7, "signal": 9}
