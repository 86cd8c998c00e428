"""What gets lost on the way is caught."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from tests.testing.broken import Broken, BrokenPieces, Case, check_case, ids
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.limits import Limits
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.testing.fakes.lines import LINES, LinesCodec, LinesPlugin
from xproxy.testing.fakes.pieces import PiecesCodec


def _traits(**changes: object) -> Traits:
    return attrs.evolve(LINES.traits, **changes)  # type: ignore[arg-type]  # each test says which field


class ForgetsBodies(LinesCodec):
    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Head) and len(frame.data) > 200:
            frame = attrs.evolve(frame, data=b"")
        return super().send(frame)


class ForgetsOneway(LinesCodec):
    def send(self, frame: Frame) -> bytes:
        return super().send(frame).replace(b"~o", b"~q")


class LosesTrailers(PiecesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        frames = super().receive(data)
        return [Data(f.stream_id, b"", end=True) if isinstance(f, Trailers) else f for f in frames]


class NeverCredits(PiecesCodec):
    def consumed(self, stream_id: int, count: int) -> bytes:
        return b""


class AlwaysOk(LinesCodec):
    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Head) and isinstance(frame.message, ResponseHead):
            frame = attrs.evolve(frame, message=attrs.evolve(frame.message, status=Status.OK))
        return super().send(frame)


class HoldsBack(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        frames = super().receive(data)
        return frames[:1] if len(frames) == 2 else frames


class IgnoresHeartbeats(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return () if data == b"~h\n" else super().receive(data)


class MutesGoodbye(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return () if data == b"~g\n" else super().receive(data)


class KeepsTheId(LinesCodec):
    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Head) and frame.origin and frame.origin.message is frame.message:
            return frame.origin.raw
        return super().send(frame)


class CopiesAnything(LinesCodec):
    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Head) and frame.origin is not None:
            frame = attrs.evolve(frame, message=frame.origin.message, data=frame.origin.data)
            assert frame.origin is not None
            words = frame.origin.raw.split(b" ", 2)
            return b"%b %d %b" % (words[0], frame.stream_id, words[-1])
        return super().send(frame)


class Stumbles(LinesCodec):
    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Data):
            raise KeyError(frame.stream_id)
        return super().send(frame)


class CopiesItsOwn(LinesCodec):
    """Looks at the codec's name, and not at what became of the message."""

    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Head) and frame.origin and frame.origin.raw.startswith(b"\xde\xad"):
            return frame.origin.raw if frame.origin.codec == "lines" else super().send(frame)
        return super().send(frame)


class AnswersTwice(LinesCodec):
    """Takes answers that others wrote, and forgets that it did."""

    def answer(self, frame: Head | Reset) -> bytes:
        return self.send(frame)

    def answered(self, stream_id: int, raw: bytes) -> bytes:
        return raw


class AnswersInItsOwnWay(AnswersTwice):
    def answer(self, frame: Head | Reset) -> bytes:
        return self.send(frame).replace(b"body", b"BODY")


@attrs.frozen(kw_only=True)
class BrokenRelay(Broken):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        super().restore(state, role, limits)
        return self.open(role, limits)


CASES: Sequence[Case] = [
    (BrokenRelay(codec=AnswersTwice), "relayed", "answered twice"),
    (BrokenRelay(codec=AnswersInItsOwnWay), "relayed", "an answer leaves as"),
    (Broken(codec=AnswersTwice), "relayed", "cannot answer for others"),
    (Broken(codec=ForgetsBodies), "round-trip", "the body"),
    (Broken(codec=ForgetsOneway), "round-trip", "oneway True arrives as False"),
    (BrokenPieces(codec=LosesTrailers), "round-trip", "trailers"),
    (BrokenPieces(codec=NeverCredits, window=256), "round-trip", "the window is shut"),
    (Broken(codec=AlwaysOk), "statuses", "the local reply CANCELLED arrives as OK"),
    (LinesPlugin(traits=_traits(sharing=Sharing.SERIAL)), "round-trip", "whole messages only"),
    (Broken(codec=HoldsBack), "serial-order", "two requests in one read give 1"),
    (LinesPlugin(traits=_traits(interim=True)), "interim", "whole messages only"),
    (Broken(codec=IgnoresHeartbeats), "heartbeat", "does not answer"),
    (Broken(codec=MutesGoodbye), "goaway", "does not reach"),
    (Broken(codec=KeepsTheId), "passing-on", "does not arrive under its new id 4097"),
    (Broken(codec=CopiesAnything), "passing-on", "without the body put in its place"),
    (Broken(codec=CopiesItsOwn), "foreign-origin", "an origin is copied"),
    (Broken(codec=Stumbles), "local-mistakes", "KeyError"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)
