"""An opaque connection can be written down in each of its states."""

from __future__ import annotations

from itertools import product

import attrs
import pytest

from xproxy.codecs.opaque.snapshot import dump, load
from xproxy.codecs.opaque.state import State
from xproxy.codecs.packing import pack_state


@pytest.mark.parametrize("flags", list(product((False, True), repeat=4)))
def test_every_state_comes_back(flags: tuple[bool, bool, bool, bool]) -> None:
    assert attrs.astuple(load(dump(State(*flags)))) == flags


def test_anything_else_is_refused() -> None:
    with pytest.raises(ValueError, match="other fields"):
        load(pack_state("opaque", 1, (1, 0, 0, 0)))
    with pytest.raises(ValueError, match="version 1"):
        load(pack_state("opaque", 9, (True,) * 4))
