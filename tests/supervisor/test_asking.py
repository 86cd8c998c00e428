"""What workers ask each other, passed on: workers are sockets here."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from xproxy.supervisor import asking, messages
from xproxy.supervisor.asking import MOST_UNANSWERED, MOST_UNDER_WAY, Asking
from xproxy.supervisor.link import Link
from xproxy.supervisor.listeners import Sockets
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.table import Phase, Worker


class Workers:
    def __init__(self) -> None:
        self.loop = Loop()
        self.loop.after(30.0, lambda: pytest.fail("nothing ended the loop"))
        self.table = Sockets()
        self.links: dict[int, Link] = {}
        self.theirs: dict[int, socket.socket] = {}
        self.asking = Asking(self.loop, self.table, self.links)

    def add(self, index: int, generation: int = 1, phase: Phase = Phase.SERVING) -> Worker:
        worker = self.table.add(index, generation, 2)
        worker.phase = phase
        ours, self.theirs[worker.id] = messages.pair()
        self.links[worker.id] = Link(self.loop, ours, lambda *_: None, lambda _: None)
        return worker

    def ask(self, worker: Worker, id_: int = 1, what: str = "/stats") -> None:
        self.asking.ask(worker, {"kind": "ask", "id": id_, "what": what})

    def told(self, worker: Worker, ask: int, descriptors: tuple[int, ...] = ()) -> None:
        self.asking.told(worker, {"kind": "told", "ask": ask, "bytes": 3}, descriptors)

    def heard(self, worker: Worker) -> list[dict[str, Any]]:
        """Return all that a worker has been told since; descriptors as ``found``."""
        heard: list[dict[str, Any]] = []
        while True:
            try:
                received = messages.receive(self.theirs[worker.id])
            except BlockingIOError:
                return heard
            assert received is not None
            message, found = received
            heard.append({**message, "found": len(found)} if found else message)
            messages.close_all(found)

    def close(self) -> None:
        for link in self.links.values():
            link.close()
        for sock in self.theirs.values():
            sock.close()
        self.loop.close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    found = Workers()
    yield found
    found.close()


def test_a_question_goes_to_all_others_and_the_answers_back(workers: Workers) -> None:
    asker, other, older = workers.add(0, 2), workers.add(1, 2), workers.add(0, 1, Phase.LEAVING)
    starting = workers.add(1, 3, Phase.STARTING)
    apart = workers.add(0, 3, Phase.PREPARED)
    apart.apart = True
    workers.ask(asker, 7)
    told = {"kind": "others", "id": 7, "of": [[1, 0], [2, 1]], "silent": []}
    assert workers.heard(asker) == [told]
    asked = {"kind": "asked", "ask": 1, "what": "/stats"}
    assert workers.heard(other) == workers.heard(older) == [asked]
    assert workers.heard(starting) == workers.heard(apart) == []
    read, write = os.pipe()
    workers.told(other, 1, (read, write))
    workers.told(older, 1)
    os.fstat(read)  # they stay ours
    messages.close_all([read, write])
    assert workers.heard(asker) == [
        {"kind": "told", "id": 7, "of": [2, 1], "bytes": 3, "found": 1},
        {"kind": "told", "id": 7, "of": [1, 0], "bytes": 3},
    ]


def test_a_lone_worker_is_told_so(workers: Workers) -> None:
    asker = workers.add(0)
    for id_ in range(MOST_UNDER_WAY + 1):
        workers.ask(asker, id_)
    assert {len(one["of"]) for one in workers.heard(asker)} == {0}, "none is under way"


def test_who_was_not_asked_or_answers_twice_is_not_heard(workers: Workers) -> None:
    asker, other = workers.add(0), workers.add(1)
    workers.ask(asker)
    workers.told(asker, 1)
    workers.told(other, 2)
    workers.told(other, 1)
    workers.told(other, 1)
    assert [one["kind"] for one in workers.heard(asker)] == ["others", "told"]


def test_one_that_does_not_answer_is_asked_so_often_and_then_no_more(workers: Workers) -> None:
    asker, other = workers.add(0), workers.add(1)
    for id_ in range(MOST_UNANSWERED):
        workers.ask(asker, id_)
    assert len(workers.heard(other)) == MOST_UNANSWERED
    workers.heard(asker)
    workers.ask(asker, 99)
    assert workers.heard(asker) == [
        {"kind": "others", "id": 99, "of": [[1, 1]], "silent": [[1, 1]]}
    ]
    assert workers.heard(other) == []
    workers.told(other, 1)
    workers.ask(asker, 100)
    assert len(workers.heard(other)) == 1


def test_questions_under_way_are_bounded_and_forgotten_in_time(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST_UNANSWERED", MOST_UNDER_WAY * 2)
    monkeypatch.setattr(asking, "SECONDS", 0.0)
    asker, other = workers.add(0), workers.add(1)
    for id_ in range(MOST_UNDER_WAY):
        workers.ask(asker, id_)
    workers.heard(asker)
    workers.ask(asker, 99)
    assert workers.heard(asker) == [{"kind": "others", "id": 99, "busy": True}]
    workers.loop.after(0.0, workers.loop.stop)
    workers.loop.run()
    workers.told(other, 1)
    assert workers.heard(asker) == [], "it comes too late"
    workers.ask(asker, 100)
    assert [one["id"] for one in workers.heard(asker)] == [100]


def test_the_end_of_one_is_its_answer(workers: Workers) -> None:
    asker, other = workers.add(0), workers.add(1)
    workers.ask(asker)
    workers.asking.ended(other)
    assert workers.heard(asker)[1:] == [{"kind": "told", "id": 1, "of": [1, 1], "bytes": 0}]
    third = workers.add(2)
    workers.ask(asker, 2)
    workers.asking.ended(asker)
    workers.told(third, 2)
    assert len(workers.heard(asker)) == 1, "nobody waits for it"


def test_a_question_that_is_none(workers: Workers) -> None:
    asker = workers.add(0)
    with pytest.raises(ValueError, match="257 characters"):
        workers.ask(asker, 1, "x" * 257)
    with pytest.raises(ValueError, match="id is no number"):
        workers.asking.ask(asker, {"kind": "ask", "what": "/stats"})
    with pytest.raises(ValueError, match="ask is no number"):
        workers.asking.told(asker, {"kind": "told"}, ())
