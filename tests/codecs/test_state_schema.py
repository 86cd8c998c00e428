"""States by name: at their defaults nothing is written, what is read is checked, and the version before is known."""

from __future__ import annotations

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.packing import MAX_STATE_BYTES, check_types, pack_state
from xproxy.codecs.state_kinds import FLAG, mapping, number, octets, sequence
from xproxy.codecs.state_schema import SKIPPABLE, StateRecord, StateSchema, by_place, state_field


@attrs.define
class Row:
    id: int
    done: bool = False


@attrs.define
class Lamp:
    """A state of every kind."""

    level: int
    held: bytes = b""
    lit: bool = False
    limit: int | None = None
    rows: list[Row] = attrs.field(factory=list)
    owed: dict[int, int] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.lit and not self.level:
            raise ValueError("is lit and dark")


def read_version_1(parts: list[object]) -> Lamp:
    """Version 1 said the level only."""
    (level,) = check_types("lamp", (int,), parts)
    assert isinstance(level, int)
    return Lamp(level)


ROW = StateRecord(Row, state_field("id", number(1, 99)), state_field("done", FLAG, False))
FIELDS = (
    state_field("level", number(0, 100)),
    state_field("held", octets(8), b""),
    state_field("lit", FLAG, False),
    state_field("limit", number(0, 9), None),
    state_field("rows", sequence(ROW.kind, 2), [], key="r"),
    state_field("owed", mapping(number(0, 9), number(0, 9), 2), {}),
)
SCHEMA = StateSchema("lamp", 2, StateRecord(Lamp, *FIELDS), {1: read_version_1})
FULL = Lamp(7, b"held", True, 0, [Row(3, True), Row(4)], {2: 1, 1: 2})


def written(**fields: object) -> bytes:
    return pack_state("lamp", 2, ({"level": 1, **fields},))


@pytest.mark.parametrize("lamp", [Lamp(0), FULL], ids=str)
def test_a_state_comes_back_and_is_written_alike(lamp: Lamp) -> None:
    state = SCHEMA.pack(lamp)
    assert SCHEMA.unpack(state) == lamp
    assert SCHEMA.pack(SCHEMA.unpack(state)) == state


def test_what_is_at_its_default_is_not_written() -> None:
    assert msgpack.unpackb(SCHEMA.pack(Lamp(3))) == ["lamp", 2, {"level": 3}]
    parts = msgpack.unpackb(SCHEMA.pack(FULL), strict_map_key=False)
    assert parts[2]["r"] == [{"id": 3, "done": True}, {"id": 4}]


def test_the_order_is_that_of_the_declaration() -> None:
    parts = msgpack.unpackb(SCHEMA.pack(FULL), strict_map_key=False)
    assert list(parts[2]) == ["level", "held", "lit", "limit", "r", "owed"]
    turned = pack_state("lamp", 2, (dict(reversed(parts[2].items())),))
    assert SCHEMA.unpack(turned) == FULL


def test_each_object_has_a_list_of_its_own() -> None:
    first, second = SCHEMA.unpack(written()), SCHEMA.unpack(written())
    first.rows.append(Row(1))
    assert second.rows == SCHEMA.unpack(written()).rows == []


def test_the_version_before_is_read() -> None:
    assert SCHEMA.versions == (1, 2)
    assert SCHEMA.unpack(pack_state("lamp", 1, (5,))) == Lamp(5)
    with pytest.raises(ValueError, match="other fields"):
        SCHEMA.unpack(pack_state("lamp", 1, ("5",)))


def test_a_field_that_may_be_skipped_is() -> None:
    assert SCHEMA.unpack(written(**{f"{SKIPPABLE}hint": "anything"})) == Lamp(1)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (written(level=101), "a snapshot of lamp has level, which is 101, not 0 … 100"),
        (written(level=True), "level, which is no number"),
        (written(limit=None), "limit, which is no number"),
        (written(later=1), "an unknown field 'later'"),
        (written(rows=[]), "an unknown field 'rows'"),
        (written(r=[{"id": 0}]), "has r, which has an item that has id, which is 0, not 1 … 99"),
        (written(r=[{}]), "has r, which has an item that has no id"),
        (written(r=[[1, True]]), "has r, which has an item that is no map"),
        (written(level=0, lit=True), "is lit and dark"),
        (pack_state("lamp", 2, ({},)), "has no level"),
        (pack_state("lamp", 2, ({"level": 1, 5: 1},)), "an unknown field '5'"),
        (pack_state("lamp", 2, ({"level": 1, b"?": 1},)), "an unknown field"),
        (pack_state("lamp", 2, ()), "other parts"),
        (pack_state("lamp", 2, ({"level": 1}, 1)), "other parts"),
        (pack_state("lamp", 2, ([1],)), "is no map"),
        (pack_state("lamp", 3, ({"level": 1},)), r"is of version 3, known are \(1, 2\)"),
        (pack_state("lamp", True, ({"level": 1},)), "without a version"),
        (pack_state("lump", 2, ({"level": 1},)), "not a snapshot of lamp"),
        (bytes(MAX_STATE_BYTES + 1), "MAX_STATE_BYTES"),
    ],
)
def test_anything_else_is_a_value_error_that_says_where(state: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SCHEMA.unpack(state)


def test_an_unknown_field_is_not_shown_at_length() -> None:
    with pytest.raises(ValueError, match="unknown field") as caught:
        SCHEMA.unpack(written(**{"x" * 5000: 1}))
    assert len(str(caught.value)) < 100


@given(st.binary(max_size=40), st.integers(0, 60))
def test_no_bytes_raise_anything_else(patch: bytes, place: int) -> None:
    whole = SCHEMA.pack(FULL)
    for data in (patch, whole[:place], whole[:place] + patch + whole[place + len(patch) :]):
        try:
            assert isinstance(SCHEMA.unpack(data), Lamp)
        except ValueError as exc:
            message = str(exc)
        else:
            continue
        assert "snapshot of lamp" in message


def test_a_record_of_one_field() -> None:
    record = StateRecord(Row, state_field("id", number(1, 99)))
    assert record.read(record.write(Row(5))) == Row(5)


def test_fields_that_had_places_get_names() -> None:
    assert by_place(("a", "b"), [1, 2]) == {"a": 1, "b": 2}
    for parts in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match="fields, not 2"):
            by_place(("a", "b"), parts)


def test_mistakes_in_a_declaration_are_found() -> None:
    with pytest.raises(AssertionError, match="twice"):
        StateRecord(Row, state_field("id", FLAG), state_field("id", FLAG, key="other"))
    with pytest.raises(AssertionError, match="twice"):
        StateRecord(Row, state_field("id", FLAG), state_field("done", FLAG, key="id"))
    with pytest.raises(AssertionError, match="not empty"):
        StateRecord(Row, state_field("id", sequence(FLAG, 1), [True]))
