"""Two codecs back to back."""

from __future__ import annotations

import pytest

from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.frames import Data, Head
from xproxy.model.limits import Limits
from xproxy.testing.fakes.lines import LINES
from xproxy.testing.fakes.pieces import PiecesPlugin
from xproxy.testing.pair import Pair
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import body_in, ends


def test_what_one_sends_the_other_takes_and_bytes_are_recorded() -> None:
    subject = Subject(LINES)
    pair = Pair(subject)
    pair.send(pair.client, Head(7, subject.request, b"hi", end=True))
    (head,) = pair.server.take()
    assert isinstance(head, Head)
    assert (head.stream_id, head.data) == (7, b"hi")
    assert pair.client.sent.endswith(b"\nhi")
    assert pair.server.take() == []


def test_a_body_larger_than_the_window_comes_through_by_credit() -> None:
    subject = Subject(PiecesPlugin(window=100))
    pair = Pair(subject)
    body = bytes(range(256)) * 4
    pair.send(pair.client, Head(1, subject.request), Data(1, body, end=True))
    frames = pair.server.take()
    assert body_in(frames, 1) == body
    assert ends(frames[-1])


def test_the_end_of_a_headless_stream_is_the_end_of_the_input() -> None:
    subject = Subject(OPAQUE)
    pair = Pair(subject)
    pair.send(pair.client, Head(1, subject.request), Data(1, b"x"), Data(1, b"", end=True))
    assert [ends(frame) for frame in pair.server.take()] == [False, False, True]


def test_a_violation_of_valid_bytes_is_an_error() -> None:
    subject = Subject(LINES)
    pair = Pair(subject, Limits(max_message_bytes=3))
    with pytest.raises(Broken, match=r"the server codec calls it a violation \(body is 4 bytes"):
        pair.send(pair.client, Head(1, subject.request, b"four", end=True))
