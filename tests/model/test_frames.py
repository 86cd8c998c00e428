from __future__ import annotations

import attrs
import pytest

from xproxy.model import frames
from xproxy.model.message import RequestHead
from xproxy.model.status import Status

HEAD = RequestHead(service="s", method="m")
ALL = [
    frames.Head(1, HEAD),
    frames.Data(1, b"x"),
    frames.Trailers(1, HEAD.headers),
    frames.Reset(1, Status.CANCELLED),
    frames.Reply(b"x"),
    frames.Credit(),
    frames.GoAway(),
    frames.Violation("x"),
]


@pytest.mark.parametrize("frame", ALL, ids=lambda frame: type(frame).__name__)
def test_frames_are_frozen_and_slotted(frame: frames.Frame) -> None:
    assert not hasattr(frame, "__dict__")
    name = attrs.fields(type(frame))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(frame, name, 2)


def test_the_origin_is_no_part_of_what_a_head_says() -> None:
    origin = frames.Origin("x", b"raw", HEAD, b"")
    assert frames.Head(1, HEAD, origin=origin) == frames.Head(1, HEAD)


def test_a_whole_message_is_made_as_any_head_is() -> None:
    origin = frames.Origin("x", b"raw", HEAD, b"d")
    made = frames.whole(7, HEAD, b"d", origin)
    assert made == frames.Head(7, HEAD, b"d", end=True, interim=False)
    assert made.origin is origin
    assert repr(made) == repr(frames.Head(7, HEAD, b"d", end=True))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.end = False  # type: ignore[misc]  # that is the point
