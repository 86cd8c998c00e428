"""An opaque connection's state as versioned msgpack."""

from __future__ import annotations

from typing import Final, cast

import attrs

from xproxy.codecs.opaque.state import State
from xproxy.codecs.packing import pack_state, unpack_state

NAME: Final = "opaque"
VERSION: Final = 1


def dump(state: State) -> bytes:
    """Write the state down."""
    return pack_state(NAME, VERSION, attrs.astuple(state))


def load(data: bytes) -> State:
    """Read what ``dump`` wrote. Raises ValueError for anything else."""
    # cast: unpack_state has checked each of them
    flags = cast("list[bool]", unpack_state(NAME, VERSION, (bool,) * 4, data))
    return State(*flags)
