"""Normal forms hide the cut and nothing else."""

from __future__ import annotations

import pytest

from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.fakes.lines import LINES
from xproxy.testing.traffic import (
    body_in,
    carried,
    difference,
    ends,
    greet,
    normal_form,
    replies_in,
    violations_in,
)

HEAD = RequestHead(service="a", method="b")


def test_a_body_in_pieces_is_the_body_whole() -> None:
    whole: list[Frame] = [Head(1, HEAD, b"abc", end=True)]
    cut: list[Frame] = [Head(1, HEAD, b"a"), Data(1, b"b"), Data(1, b"c"), Data(1, b"", end=True)]
    assert normal_form(whole) == normal_form(cut)


def test_bodies_of_two_streams_keep_their_order() -> None:
    one: list[Frame] = [Data(1, b"a"), Data(3, b"x"), Data(1, b"b")]
    other: list[Frame] = [Data(1, b"ab"), Data(3, b"x")]
    assert normal_form(one) != normal_form(other)


def test_replies_are_joined_and_violations_lose_their_detail() -> None:
    assert normal_form([Reply(b"a"), Reply(b"b")]) == normal_form([Reply(b"ab")])
    assert normal_form([Violation("7 of 9")]) == normal_form([Violation("8 of 9")])
    assert normal_form([Violation("a", b"x")]) != normal_form([Violation("a", b"y")])


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Head(1, HEAD, end=True), True),
        (Head(1, HEAD, end=True, interim=True), False),
        (Data(1, b"", end=True), True),
        (Data(1, b"x"), False),
        (Trailers(1, NO_HEADERS), True),
        (Reset(1, Status.CANCELLED), False),
        (GoAway(), False),
    ],
)
def test_what_ends_a_message(frame: Frame, expected: bool) -> None:
    assert ends(frame) is expected


def test_parts_of_frames() -> None:
    frames: list[Frame] = [Head(1, HEAD, b"a"), Reply(b"r"), Data(1, b"b"), Violation("bad")]
    assert body_in(frames, 1) == b"ab"
    assert body_in(frames, 2) == b""
    assert replies_in(frames) == b"r"
    assert violations_in(frames) == ["bad"]


def test_fields_may_be_added_but_not_lost() -> None:
    sent = Headers((("A", "1"), ("Content-Length", "3")))
    assert carried(sent, Headers((("a", "1"), ("b", "2"), ("content-length", "4"))))
    assert not carried(sent, Headers((("b", "2"),)))


def test_a_difference_names_the_place() -> None:
    assert difference([("end", 1)], [("end", 2)]) == (
        "event 0 is ('end', 2) where it should be ('end', 1)"
    )
    assert difference([("end", 1)], []) == "missing from event 0: ('end', 1)"
    assert difference([], [("end", 1)]) == "too many from event 0: ('end', 1)"


def test_two_codecs_without_a_greeting_say_nothing() -> None:
    client = LINES.open(Role.CLIENT, DEFAULT_LIMITS)
    assert greet(client, LINES.open(Role.SERVER, DEFAULT_LIMITS)) == b""
