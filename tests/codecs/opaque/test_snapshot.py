"""An opaque connection can be written down in each of its states."""

from __future__ import annotations

from itertools import product

import attrs
import pytest

from xproxy.codecs.opaque.snapshot import SCHEMA
from xproxy.codecs.opaque.state import State
from xproxy.codecs.packing import pack_state


@pytest.mark.parametrize("flags", list(product((False, True), repeat=4)))
def test_every_state_comes_back(flags: tuple[bool, bool, bool, bool]) -> None:
    assert attrs.astuple(SCHEMA.unpack(SCHEMA.pack(State(*flags)))) == flags


# A state, and its bytes: as they were when fields had places (version 1, by the last commit that wrote it), and as
# they are (version 2).
GOLDEN: list[tuple[State, str, str]] = [
    (
        State(),
        "96a66f706171756501c2c2c2c2",
        "93a66f70617175650280",
    ),
    (
        State(started=True, ended=True),
        "96a66f706171756501c3c2c3c2",
        "93a66f70617175650282a773746172746564c3a5656e646564c3",
    ),
]


@pytest.mark.parametrize(("state", "version_1", "version_2"), GOLDEN)
def test_states_that_were_written_once_are_read(
    state: State, version_1: str, version_2: str
) -> None:
    assert SCHEMA.pack(state).hex() == version_2
    for written in (version_1, version_2):
        assert attrs.astuple(SCHEMA.unpack(bytes.fromhex(written))) == attrs.astuple(state)


def test_anything_else_is_refused() -> None:
    with pytest.raises(ValueError, match="started, which is no bool"):
        SCHEMA.unpack(pack_state("opaque", 1, (1, False, False, False)))
    with pytest.raises(ValueError, match="3 fields, not 4"):
        SCHEMA.unpack(pack_state("opaque", 1, (True,) * 3))
    with pytest.raises(ValueError, match="over, which is no bool"):
        SCHEMA.unpack(pack_state("opaque", 2, ({"over": 1},)))
    with pytest.raises(ValueError, match="version 9"):
        SCHEMA.unpack(pack_state("opaque", 9, ({},)))
