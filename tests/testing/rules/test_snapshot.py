"""A connection that does not survive its move is caught."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.testing.broken import Broken, Case, check_case, ids
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.traits import Role
from xproxy.testing.fakes.lines import LinesCodec, LinesPlugin


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
    def snapshot(self) -> bytes:
        return super().snapshot() + b"\xc0"


class OtherWords(LinesPlugin):
    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        right, codec = super().restore(state, role, limits), Wordy(role, limits)
        codec._buffer, codec._violated = right._buffer, right._violated
        return codec


class KnowsOneLimit(LinesPlugin):
    """As if what a connection was opened with were what a new one gets."""

    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        if limits != DEFAULT_LIMITS:
            return LinesCodec(role, limits)
        return super().restore(state, role, limits)


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


CASES: Sequence[Case] = [
    (Broken(codec=ForgetsItsBuffer), "snapshots", "moved after"),
    (Broken(codec=CountsItsSnapshots), "snapshots", "snapshot() changes what it writes down"),
    (Broken(codec=LosesWhenAsked), "snapshots", "the original goes on otherwise"),
    (OtherWords(), "snapshots", "another snapshot()"),
    (KnowsOneLimit(), "snapshots", "another snapshot()"),
    (CredulousRestore(), "hostile-states", "IndexError"),
    (LenientRestore(), "hostile-states", "too long or too short"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)
