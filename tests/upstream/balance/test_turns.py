from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.upstream.balance.turns import Turns, pack_turns, unpack_turns


@pytest.mark.parametrize("turns", [Turns([]), Turns(["a", "b"]), Turns(["a", "b"], [0.0, 0.5])])
def test_what_is_written_is_read_again(turns: Turns) -> None:
    assert unpack_turns(pack_turns(turns)) == turns


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="turns"):
        unpack_turns(data)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"names": "a"},
        {"names": [1]},
        {"names": ["a"], "due": [0.0, 1.0]},
        {"names": ["a"], "due": [-1.0]},
        {"names": ["a"], "due": [1]},
        {"names": ["a"], "more": 1},
    ],
)
def test_other_fields_are_refused(fields: object) -> None:
    with pytest.raises(ValueError, match="turns"):
        unpack_turns(msgpack.packb(["turns", 1, fields]))
