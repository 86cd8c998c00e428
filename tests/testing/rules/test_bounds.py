"""A codec that holds or computes too much is caught."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from tests.testing.broken import Broken, BrokenPieces, Case, check_case, ids
from xproxy.model.frames import Frame, Violation
from xproxy.model.limits import MIB, Limits
from xproxy.testing.fakes.lines import LinesCodec
from xproxy.testing.fakes.pieces import PiecesCodec

_NO_LIMITS = Limits(
    max_head_bytes=MIB**2, max_message_bytes=MIB**2, max_headers=MIB, max_streams=MIB
)


class Unbounded(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        self.limits = _NO_LIMITS
        return super().receive(data)


class BoundedBodiesOnly(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        self.limits = attrs.evolve(_NO_LIMITS, max_message_bytes=self.limits.max_message_bytes)
        return super().receive(data)


class KeepsBodies(PiecesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        self.__dict__.setdefault("kept", []).append(data)
        return super().receive(data)


class Rescans(LinesCodec):
    def receive(self, data: bytes | None) -> Sequence[Frame]:
        bytes(self._buffer).count(b"x")
        return super().receive(data)


class Hoards(LinesCodec):
    """Keeps every byte it has ever seen, although nothing shows of it."""

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        self.__dict__.setdefault("hoard", []).append(bytes(data or b""))
        frames = super().receive(data)
        return (
            [f for f in frames if not isinstance(f, Violation)]
            if len(data or b"") > 999
            else frames
        )


CASES: Sequence[Case] = [
    (Broken(codec=Unbounded), "declared-length", "limit 8192"),
    (Broken(codec=BoundedBodiesOnly), "long-heads", "passes a limit of 4096"),
    (BrokenPieces(codec=KeepsBodies), "streamed-body", "are held"),
    (Broken(codec=Rescans), "linear-time", "byte by byte"),
    (Broken(codec=Hoards), "memory", "holds"),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_is_caught(case: Case) -> None:
    check_case(case)
