"""Who cannot hand over says so."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest
import trio

from xproxy.proxy.handover import Handover
from xproxy.supervisor.messages import pair


class Untouched:
    """A runtime that nothing may be done to."""

    accepting = trio.Event()

    def hold(self) -> None:
        raise AssertionError

    def accept(self) -> None:
        raise AssertionError

    def stop(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("side", [field.name for field in attrs.fields(Handover)])
async def test_who_hands_over_to_nobody_says_so_and_goes_on(side: str) -> None:
    ours, theirs = pair()
    said: list[Mapping[str, object]] = []
    with theirs:
        await getattr(Handover(), side)(Untouched(), ours, said.append)
        assert theirs.recv(1) == b"", "the other side learns it"
    assert [one["step"] for one in said] == ["withdrawn"]
