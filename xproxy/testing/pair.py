"""Two codecs wired back to back, a client's and a server's (idea: h11:h11/tests/helpers.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from xproxy.codecs.api import Codec, SupportsFlow
from xproxy.model.frames import Data, Frame, Head, Reply, Violation
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.traits import Role
from xproxy.testing.received import received
from xproxy.testing.subject import Broken, Subject
from xproxy.testing.traffic import ends

_MOST_ROUNDS: Final = 1000
"""Replies may answer replies only so often."""


@attrs.define(eq=False)
class Side:
    """One of the two codecs, what it received, and every byte it sent."""

    codec: Codec
    role: Role
    headless: bool
    frames: list[Frame] = attrs.field(factory=list)
    sent: bytearray = attrs.field(factory=bytearray)

    def take(self) -> list[Frame]:
        """Return the frames received since the last call, without what concerns codecs only."""
        frames, self.frames = self.frames, []
        return [frame for frame in frames if not isinstance(frame, Reply)]


class Pair:
    """A conversation without a network. What one side sends the other receives at once, replies included."""

    def __init__(self, subject: Subject, limits: Limits = DEFAULT_LIMITS) -> None:
        headless = subject.traits.headless
        self.client = Side(subject.open(Role.CLIENT, limits), Role.CLIENT, headless)
        self.server = Side(subject.open(Role.SERVER, limits), Role.SERVER, headless)
        self._hand_over(self.client, b"")
        self._hand_over(self.server, b"")

    def peer_of(self, side: Side) -> Side:
        """Return the other one."""
        return self.server if side is self.client else self.client

    def send(self, side: Side, *frames: Frame) -> None:
        """Let ``side`` send ``frames``; the other one receives them. Bodies respect windows."""
        for frame in frames:
            for piece in self._cut(side, frame):
                self.deliver(side, side.codec.send(piece))
            if ends(frame) and side.headless:
                self._take(self.peer_of(side), received(self.peer_of(side).codec, None))
        # A serial codec may hold back what came after the message it has just answered.
        self._hand_over(side, b"")

    def deliver(self, sender: Side, data: bytes) -> None:
        """Give bytes to the other side."""
        if data:
            sender.sent += data
            self._hand_over(self.peer_of(sender), data)

    def _hand_over(self, receiver: Side, data: bytes) -> None:
        self._take(receiver, received(receiver.codec, data))

    def _take(self, receiver: Side, frames: Sequence[Frame]) -> None:
        if len(receiver.frames) > _MOST_ROUNDS:
            raise Broken("the two codecs answer each other without end")
        receiver.frames += frames
        for frame in frames:
            if isinstance(frame, Reply):
                self.deliver(receiver, frame.data)
            elif isinstance(frame, Head | Data) and isinstance(receiver.codec, SupportsFlow):
                if frame.data:
                    credit = receiver.codec.consumed(frame.stream_id, len(frame.data))
                    self.deliver(receiver, credit)
            elif isinstance(frame, Violation):
                raise Broken(
                    f"the {receiver.role.value} codec calls it a violation ({frame.detail})"
                    f" when the {self.peer_of(receiver).role.value} codec sends it",
                    bytes(self.peer_of(receiver).sent),
                )

    def _cut(self, side: Side, frame: Frame) -> Sequence[Frame]:
        """Cut body bytes to what the window lets through; the credit comes as the pieces are consumed."""
        codec = side.codec
        if not isinstance(frame, Data) or not frame.data or not isinstance(codec, SupportsFlow):
            return (frame,)
        left = frame.data
        while len(left) > (room := codec.sendable(frame.stream_id)):
            if room <= 0:
                raise Broken("the window is shut, though the peer has consumed everything")
            self.deliver(side, codec.send(Data(frame.stream_id, left[:room])))
            left = left[room:]
        return (Data(frame.stream_id, left, frame.end),)
