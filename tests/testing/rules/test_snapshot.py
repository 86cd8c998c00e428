"""A connection that does not survive its move is caught."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.testing.broken import Broken, Case, check_case, ids
from xproxy.model.limits import Limits
from xproxy.model.traits import Role
from xproxy.testing.fakes.lines import LinesCodec, LinesPlugin


class ForgetsItsBuffer(LinesCodec):
    def snapshot(self) -> bytes:
        self._buffer.clear()
        return super().snapshot()


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
    (CredulousRestore(), "hostile-states", "IndexError"),
    (LenientRestore(), "hostile-states", "too long or too short"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)
