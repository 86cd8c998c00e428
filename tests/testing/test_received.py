"""All that comes of bytes, of a codec that gives only so much at a time and of one that does not."""

from __future__ import annotations

from collections.abc import Sequence

from xproxy.codecs.bolt.plugin import EXAMPLES, PLUGIN
from xproxy.model.frames import Credit, Frame
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.testing.received import received


class Slow:
    """Gives one frame a turn."""

    def __init__(self) -> None:
        self.left: list[int] = []

    @property
    def backlog(self) -> bool:
        return bool(self.left)

    @property
    def backlog_bytes(self) -> int:
        return len(self.left)

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        self.left += data or b""
        return (Credit(self.left.pop(0)),) if self.left else ()

    def send(self, frame: Frame) -> bytes:
        raise NotImplementedError


def test_a_backlog_is_gone_through() -> None:
    assert received(Slow(), b"\1\2\3") == [Credit(1), Credit(2), Credit(3)]
    assert received(Slow(), b"") == ()


def test_without_one_it_is_what_receive_gives() -> None:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    assert len(received(codec, EXAMPLES[0])) == 1
    assert received(codec, None) == ()
