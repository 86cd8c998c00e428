"""Which answers may leave, and that a state which contradicts itself is refused."""

from __future__ import annotations

import pytest

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.dialect import FRAMED_STRICT
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.state import SPARE, Answers, Calls, Waiting
from xproxy.model.limits import DEFAULT_LIMITS, Limits

EXTRA = ThriftExtra(name="m")


def shape(answers: Answers) -> tuple[bool, bool]:
    return answers.plain, answers.ordered


def test_it_is_plain_until_an_id_returns() -> None:
    answers = Answers(DEFAULT_LIMITS)
    answers.ask(3, 3, EXTRA)
    assert shape(answers) == (True, False)
    falling = answers.ask(1, 1, EXTRA)
    assert shape(answers) == (False, False)
    assert answers.leave(falling, b"a") == b"a"
    assert shape(answers) == (True, False)
    again = answers.ask(3, 3, EXTRA)
    assert shape(answers) == (False, True)
    assert answers.leave(again, b"b") == b""
    assert answers.leave(3, b"c") == b"cb"
    assert not answers.owed


def test_stream_ids_do_not_depend_on_answers() -> None:
    asked = [4, 4, 2, 2, 9, 9]
    eager, lazy = Answers(DEFAULT_LIMITS), Answers(DEFAULT_LIMITS)
    given = []
    for outer in asked:
        given.append(eager.ask(outer, outer, EXTRA))
        eager.leave(given[-1], b"x")
    assert given == [lazy.ask(outer, outer, EXTRA) for outer in asked]
    assert len(set(given)) == len(asked)
    assert [stream_id & 0xFFFFFFFF for stream_id in given] == asked


def test_spare_ids_stay_in_64_bits() -> None:
    answers = Answers(DEFAULT_LIMITS)
    answers.load([], ordered=False, highest=5, spare=SPARE - 1)
    assert answers.ask(5, 5, EXTRA) < 1 << 64
    assert answers.ask(5, 5, EXTRA) < 1 << 64


def test_inner_ids_are_kept_where_they_differ() -> None:
    answers = Answers(DEFAULT_LIMITS)
    assert answers.ask(7, 0, EXTRA) == 7
    assert answers.inner(7) == 0
    assert shape(answers) == (False, False)
    answers.leave(7, b"")
    assert shape(answers) == (True, False)
    assert answers.inner(7) == 7


def test_refusing() -> None:
    answers = Answers(Limits(max_streams=4))
    for _ in range(4):
        assert not answers.refusing
        answers.ask(0, 0, EXTRA)
    for _ in range(2):
        assert answers.refusing
        answers.ask(0, 0, EXTRA)
    with pytest.raises(Malformed):
        _ = answers.refusing


@pytest.mark.parametrize(
    ("waiting", "ordered"),
    [
        ([Waiting(1, 1, EXTRA, None), Waiting(1, 1, EXTRA, None)], True),
        ([Waiting(10, 10, EXTRA, None)], True),
        ([Waiting(SPARE * SPARE + 1, 1, EXTRA, None)], True),
        ([Waiting(1, 1, EXTRA, None), Waiting(SPARE + 1, 1, EXTRA, None)], False),
        ([Waiting(1, 1, EXTRA, None), Waiting(2, 2, EXTRA, b"x")], False),
        ([Waiting(1, 1, EXTRA, b"x")], True),
    ],
)
def test_states_that_nobody_is_in(waiting: list[Waiting], ordered: bool) -> None:
    with pytest.raises(ValueError, match=r"id|order|waits"):
        Answers(DEFAULT_LIMITS).load(waiting, ordered=ordered, highest=9, spare=5)


def test_calls_are_answered_once() -> None:
    calls = Calls()
    calls.asked[1] = FRAMED_STRICT
    calls.answered(1, FRAMED_STRICT)
    with pytest.raises(Malformed):
        calls.answered(1, FRAMED_STRICT)
