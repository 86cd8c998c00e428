"""A worker asks the others and answers them; the supervisor is the test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.proxy.siblings import MOST_ANSWERING, MOST_AT_ONCE, Answers, Process, Siblings
from xproxy.transport.channel import MAX_STATE_BYTES
from xproxy.transport.sealed import sealed, unsealed

THIS, OTHER, OLDER = Process(2, 0), Process(2, 1), Process(1, 0)


@attrs.define(eq=False)
class Asked:
    """Siblings, and what they have said."""

    said: list[tuple[dict[str, Any], bytes]] = attrs.field(factory=list)
    siblings: Siblings = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.siblings = Siblings(THIS, self._say)

    def _say(self, message: Mapping[str, object], descriptors: Sequence[int]) -> None:
        length = message.get("bytes", 0)
        assert isinstance(length, int)
        state = unsealed(descriptors[0], length) if descriptors else b""
        self.said.append((dict(message), state))

    def hear(self, kind: str, **message: object) -> None:
        self.siblings.heard({"kind": kind, "id": 1, **message}, ())

    def told(self, of: list[int], state: bytes) -> None:
        number = sealed(state)
        try:
            message = {"kind": "told", "id": 1, "of": of, "bytes": len(state)}
            self.siblings.heard(message, [number])
        finally:
            os.close(number)


async def answers(asked: Asked, *steps: Any) -> Answers:
    """Ask, and let the steps happen while it waits."""
    found: list[Answers] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            found.append(await asked.siblings.ask("/stats"))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert asked.said == [({"kind": "ask", "id": 1, "what": "/stats"}, b"")]
        for step in steps:
            assert not found
            step()
            await wait_all_tasks_blocked()
    return found[0]


async def test_all_answers_are_there_at_once(autojump_clock: MockClock) -> None:
    asked = Asked()
    found = await answers(
        asked,
        lambda: asked.hear("others", of=[[1, 0], [2, 1]], silent=[]),
        lambda: asked.told([2, 1], b"one"),
        lambda: asked.told([1, 0], b"two"),
    )
    assert found == Answers(THIS, {OLDER: b"two", OTHER: b"one"})
    assert list(found.told) == [OLDER, OTHER]
    assert not found.lone
    assert trio.current_time() < 0.5


async def test_nobody_else(autojump_clock: MockClock) -> None:
    asked = Asked()
    found = await answers(asked, lambda: asked.hear("others", of=[], silent=[]))
    assert found.lone


async def test_who_does_not_answer_in_time_is_named(autojump_clock: MockClock) -> None:
    asked = Asked()
    before = trio.current_time()
    found = await answers(
        asked,
        lambda: asked.hear("others", of=[[1, 0], [2, 1]], silent=[]),
        lambda: asked.told([2, 1], b"one"),
    )
    assert trio.current_time() - before == pytest.approx(1.0)
    assert found == Answers(THIS, {OTHER: b"one"}, [OLDER])
    asked.told([1, 0], b"too late")  # nothing happens


async def test_nobody_waits_for_one_that_is_silent_or_says_nothing(
    autojump_clock: MockClock,
) -> None:
    asked = Asked()
    found = await answers(
        asked,
        lambda: asked.hear("others", of=[[1, 0], [2, 1]], silent=[[1, 0]]),
        lambda: asked.hear("told", of=[2, 1], bytes=0),
    )
    assert found == Answers(THIS, {}, [OLDER, OTHER])


async def test_why_nobody_was_asked(autojump_clock: MockClock) -> None:
    asked = Asked()
    found = await answers(asked, lambda: asked.hear("others", busy=True))
    assert (found.lone, found.why) == (False, "too much is being asked")
    asked = Asked()
    found = await answers(asked)
    assert found.why == "the supervisor does not answer"
    asked.siblings.lose()
    assert (await asked.siblings.ask("/stats")).why == "the supervisor has ended"


async def test_so_many_questions_at_once(autojump_clock: MockClock) -> None:
    asked = Asked()
    async with trio.open_nursery() as nursery:
        for _ in range(MOST_AT_ONCE + 1):
            nursery.start_soon(asked.siblings.ask, "/stats")
        await wait_all_tasks_blocked()
        assert len(asked.said) == MOST_AT_ONCE
        asked.hear("others", of=[], silent=[])
        await wait_all_tasks_blocked()
        assert len(asked.said) == MOST_AT_ONCE + 1


async def test_a_state_is_answered_and_what_is_too_long_is_not() -> None:
    asked = Asked()

    async def answer(what: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return {"short": b"yes", "long": bytes(MAX_STATE_BYTES + 1)}.get(what)

    for number, what in enumerate(["short", "long", "unknown"]):
        await asked.siblings.answer(number, what, answer)
    await asked.siblings.answer(3, "short", None)
    nothing = [({"kind": "told", "ask": number}, b"") for number in (1, 2, 3)]
    assert asked.said == [({"kind": "told", "ask": 0, "bytes": 3}, b"yes"), *nothing]


async def test_so_many_answers_at_once() -> None:
    asked, go_on = Asked(), trio.Event()

    async def answer(_what: str) -> bytes | None:
        await go_on.wait()
        return b"yes"

    async with trio.open_nursery() as nursery:
        for number in range(MOST_ANSWERING):
            nursery.start_soon(asked.siblings.answer, number, "x", answer)
        await wait_all_tasks_blocked()
        await asked.siblings.answer(99, "x", answer)
        assert asked.said == [({"kind": "told", "ask": 99}, b"")]
        go_on.set()
    assert len(asked.said) == MOST_ANSWERING + 1


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "others", "of": 7},
        {"kind": "others", "of": [[1]]},
        {"kind": "others", "of": [[1, "0"]], "silent": []},
        {"kind": "told", "of": None},
        {"kind": "told", "of": [1, 2, 3]},
    ],
)
async def test_what_is_no_answer(message: dict[str, object], autojump_clock: MockClock) -> None:
    asked = Asked()

    def wrong() -> None:
        with pytest.raises(ValueError, match="process"):
            asked.siblings.heard({**message, "id": 1}, ())

    assert (await answers(asked, wrong)).why
