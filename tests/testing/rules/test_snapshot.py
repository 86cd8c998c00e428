"""A connection that does not survive its move is caught."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.testing.broken import Broken, Case, check_case, ids
from xproxy.codecs.api import Samples
from xproxy.model.frames import Frame
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.traits import Role
from xproxy.testing import check_codec
from xproxy.testing.fakes.lines import LINES, LinesCodec, LinesPlugin
from xproxy.testing.rules.snapshot import kept_states
from xproxy.testing.subject import Broken as Breach
from xproxy.testing.subject import Subject


class ForgetsItsBuffer(LinesCodec):
    def snapshot(self) -> bytes:
        self._buffer.clear()
        return super().snapshot()


class CountsItsSnapshots(LinesCodec):
    def snapshot(self) -> bytes:
        state = super().snapshot()
        self._buffer += b"~"
        return state


class LosesWhenAsked(LinesCodec):
    """The state is right, twice, and the original is not what it was."""

    def snapshot(self) -> bytes:
        state = super().snapshot()
        self._violated = self._violated or bool(self._buffer)
        self.snapshot = lambda: state  # type: ignore[method-assign]  # on purpose
        return state


class Wordy(LinesCodec):
    """Goes on as another one does, and writes down something else."""

    def __init__(self, right: LinesCodec) -> None:
        super().__init__(right.role, right.limits)
        self.right = right

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return self.right.receive(data)

    def snapshot(self) -> bytes:
        return self.right.snapshot() + b"\xc0"


class OtherWords(LinesPlugin):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        return Wordy(super().restore(state, role, limits))


class KnowsOneLimit(LinesPlugin):
    """As if what a connection was opened with were what a new one gets."""

    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        if limits != DEFAULT_LIMITS:
            return LinesCodec(role, limits)
        return super().restore(state, role, limits)


class ForgetsWhatItHasSaid(LinesCodec):
    """Asks whether its peer lives before the first message, and does not write down that it did."""

    said = False

    def send(self, frame: Frame) -> bytes:
        before, self.said = b"" if self.said else b"~h\n", True
        return before + super().send(frame)


class SaysItAgain(LinesPlugin):
    def open(self, role: Role, limits: Limits) -> LinesCodec:
        return ForgetsWhatItHasSaid(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        right = super().restore(state, role, limits)
        return ForgetsWhatItHasSaid(role, limits, right._buffer, 0, right._violated)


class CredulousRestore(LinesPlugin):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        if not state:
            raise IndexError("empty state")
        return super().restore(state, role, limits)


class LenientRestore(LinesPlugin):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        try:
            return super().restore(state, role, limits)
        except ValueError:
            return LinesCodec(role, limits)


class FallsOverTightLimits(LinesPlugin):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        if limits.max_message_bytes < DEFAULT_LIMITS.max_message_bytes:
            raise KeyError("no such limit")
        return super().restore(state, role, limits)


KEPT = bytes.fromhex("93a56c696e65730182a4726f6c65a6736572766572a468656c64c4047e712031")
"""What a server wrote that had read ``~q 1``."""


class Keeps(LinesPlugin):
    def samples(self) -> Samples:
        return Samples(states=((Role.SERVER, KEPT),))


class ReadsItNoMore(Keeps):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        if state == KEPT:
            raise ValueError("of an earlier release")
        return super().restore(state, role, limits)


class WritesItAnewEachTime(Keeps):
    """What it makes of a state that was kept is not what it makes of that."""

    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        codec = super().restore(state, role, limits)
        again = LinesCodec(Role.SERVER, limits)
        again.receive(b"~q 1 ")
        if state in (KEPT, again.snapshot()):
            codec.receive(b" ")
        return codec


CASES: Sequence[Case] = [
    (Broken(codec=ForgetsItsBuffer), "snapshots", "moved after"),
    (Broken(codec=CountsItsSnapshots), "snapshots", "snapshot() changes what it writes down"),
    (Broken(codec=LosesWhenAsked), "snapshots", "the original goes on otherwise"),
    (OtherWords(), "snapshots", "another snapshot()"),
    (KnowsOneLimit(), "snapshots", "another snapshot()"),
    (SaysItAgain(), "writing-when-moved", "writes something else"),
    (FallsOverTightLimits(), "hostile-states", "KeyError"),
    (CredulousRestore(), "hostile-states", "IndexError"),
    (LenientRestore(), "hostile-states", "too long or too short"),
    (ReadsItNoMore(), "kept-states", "a server's state is refused: of an earlier release"),
    (WritesItAnewEachTime(), "kept-states", "another snapshot()"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)


def test_states_that_were_kept_are_restored() -> None:
    check_codec(Keeps())


def test_states_of_a_plugin_that_restores_none_are_told() -> None:
    class Plain:
        def __init__(self) -> None:
            self.name, self.traits, self.detect = LINES.name, LINES.traits, LINES.detect
            self.status_of = LINES.status_of

        def open(self, role: Role, limits: Limits) -> LinesCodec:
            return LINES.open(role, limits)

    subject = Subject(Plain(), Samples(states=((Role.SERVER, KEPT),)))
    with pytest.raises(Breach, match="no restore"):
        kept_states(subject)
