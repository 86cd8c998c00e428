"""A codec whose frames depend on the cut, or that gives way, is caught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from tests.testing.broken import Broken, Case, caught, check_case, ids
from xproxy.model.frames import Frame, Head, Violation
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role
from xproxy.testing.fakes.lines import LinesCodec


class LosesTheTail(LinesCodec):
    """A read that is not the last loses its last byte, if it is a blank."""

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return super().receive(data[:-1] if data and data.endswith(b" ") else data)


class Shared(LinesCodec):
    common: ClassVar[bytearray] = bytearray()

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        self._buffer = self.common
        self._searched = 0
        frames = super().receive(data)
        if data is None:
            self.common.clear()
        return frames


class CompletesAtTheEnd(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        if data is None and self.role is Role.SERVER and self._buffer:
            self._buffer.clear()
            return (Head(1, RequestHead(service="a", method="b"), b"", end=True),)
        return super().receive(data)


class Raises(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        if data and not self._buffer and data[0] >= 0x80:
            raise IndexError("index out of range")
        return super().receive(data)


class TalksAfterViolation(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        frames = super().receive(data)
        return (*frames, frames[-1]) if frames and isinstance(frames[-1], Violation) else frames


class NoticesLate(LinesCodec):
    """A wrong message hides the good ones that were read together with it."""

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        frames = super().receive(data)
        return frames[-1:] if frames and isinstance(frames[-1], Violation) else frames


CASES: Sequence[Case] = [
    (Broken(codec=LosesTheTail), "readings", "read byte by byte"),
    (Broken(codec=Shared), "purity", "two connections disturb each other"),
    (Broken(codec=CompletesAtTheEnd), "truncation", "completes a message"),
    (Broken(codec=Raises), "totality", "receive raises IndexError"),
    (Broken(codec=TalksAfterViolation), "totality", "a frame follows a Violation"),
    (Broken(codec=NoticesLate), "garbage-readings", "whole and in pieces"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)


def test_the_input_is_made_short() -> None:
    data = caught(Broken(codec=Raises)).data
    assert data is not None
    assert len(data) == 1
