"""Attachments are read on the first look, and changed entry by entry."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alive import parts
from xproxy.codecs.dubbo.arguments import Walk
from xproxy.codecs.dubbo.attachments import (
    Attachments,
    Map,
    add_to_map,
    change_map,
    read_map,
    write_map,
)
from xproxy.codecs.hessian2 import HessianError, write_text
from xproxy.codecs.slices import at_once
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers


def promise(
    body: bytes, values: int = 0, *, path: str | None = None, version: str | None = None
) -> Attachments:
    return Attachments(body, 0, values, 10, 1000, path, version)


def many(count: int) -> bytes:
    """Return a map of so many entries."""
    return table(*((f"k{number}", "v") for number in range(count)))


def table(*pairs: tuple[str, str]) -> bytes:
    return write_map(tuple(pairs))


def kept(found: Attachments) -> bool:
    """Tell whether it still has the body."""
    return parts(found, bytes) != []


def parsed(raw: bytes) -> Map:
    return at_once(read_map(raw, 0, Walk(), 100))


def test_nothing_is_read_before_somebody_looks() -> None:
    found = promise(b"\x90" + table(("a", "b")), 1)
    assert kept(found)
    assert found.get("A") == "b"
    assert not kept(found)
    assert found.pairs == (("a", "b"),)
    assert found == Headers([("a", "b")])
    assert hash(found) == hash(Headers([("a", "b")]))


@pytest.mark.parametrize(
    "look",
    [
        lambda h: list(h) == [("a", "b")],
        lambda h: len(h) == 1,
        lambda h: "a" in h and "c" not in h,
        lambda h: h["a"] == "b",
        lambda h: h.get_all("a") == ["b"],
        lambda h: h.has_any(frozenset({"a"})),
        lambda h: h.add("c", "d").pairs == (("a", "b"), ("c", "d")),
        lambda h: h.set("a", "c").pairs == (("a", "c"),),
        lambda h: h.remove("a").pairs == (),
        lambda h: repr(h) == "Headers([('a', 'b')])",
    ],
)
def test_they_are_headers_in_every_way(look: object) -> None:
    assert callable(look)
    assert look(promise(table(("a", "b"))))


def test_there_is_no_other_attribute() -> None:
    with pytest.raises(AttributeError):
        promise(b"").nothing  # noqa: B018  # reading it is the test


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b"\x90", 2),
        (b"\x90", -1),
        (b"", 1),
        (b"\x7f", 0),
        (b"H", 0),
        (b"H\x01a", 0),
        (b"H\x01aZ", 0),
        (b"H\x01a\x5d", 0),
        (b"HN\x01aZ", 0),
        (b"M\x5bZ", 0),
        (b"NN", 0),
        (many(11), 0),
        (table(("k", "v" * 1000)), 0),
        (b"H\x01a" + b"\x79" * 100 + b"NZ", 0),
    ],
)
def test_what_cannot_be_read_shows_nothing_and_cannot_be_changed(body: bytes, values: int) -> None:
    found = promise(body, values)
    with pytest.raises(LocalProtocolError, match="not changed"):
        _ = found.map
    assert list(found) == []


def test_none_at_all() -> None:
    for body in (b"", b"N"):
        found = promise(body)
        assert list(found) == []
        assert change_map(found.map, Headers([("a", "b")]), None, None) == table(("a", "b"))
        assert change_map(found.map, found, None, None) == body
        assert add_to_map(found.map, (("a", "b"),)) == table(("a", "b"))


def test_targets_that_repeat_the_prefix_follow_it() -> None:
    raw = table(("path", "s"), ("interface", "s"), ("group", "g"))
    found = promise(raw, path="s")
    assert list(found) == [("group", "g")]
    assert change_map(found.map, found, "s", "t") == table(
        ("path", "t"), ("interface", "t"), ("group", "g")
    )
    second = found.add("path", "evil")
    assert change_map(found.map, second, "s", "s") == raw
    other = promise(table(("path", "x"), ("interface", "s")), path="s")
    assert list(other) == [("path", "x")]


def test_the_version_of_the_prefix_shows_unless_the_map_says_one() -> None:
    assert list(promise(b"HZ", version="1.0")) == [("version", "1.0")]
    assert list(promise(table(("version", "2.0")), version="1.0")) == [("version", "2.0")]
    assert list(promise(b"HZ", version="")) == []


def test_what_was_not_changed_keeps_its_bytes() -> None:
    raw = b"M\x01t\x01a\xd4\x0b\xb8\x01bN\x01c\x5c\x01d\x7a\x01xN\x01eS\x00\x01yZ"
    found = promise(raw)
    assert list(found) == [("a", "3000"), ("b", ""), ("e", "y")]
    assert change_map(found.map, Headers(found), None, None) != b""
    changed = change_map(found.map, found.set("a", "1").add("f", "g"), None, None)
    again = promise(changed)
    assert list(again) == [("a", "1"), ("b", ""), ("e", "y"), ("f", "g")]
    for kept in (b"M\x01t", b"\x01bN", b"\x01c\x5c", b"\x01d\x7a\x01xN", b"\x01eS\x00\x01y"):
        assert kept in changed
    assert b"\xd4\x0b\xb8" not in changed
    with pytest.raises(LocalProtocolError, match="no text"):
        change_map(found.map, found.add("d", "text"), None, None)


def test_a_map_that_refers_to_other_values_is_not_changed() -> None:
    found = promise(b"\x79NH\x01aQ\x90\x01b\x01cZ", 1)
    assert list(found) == [("b", "c")]
    with pytest.raises(LocalProtocolError, match="refer"):
        change_map(found.map, found.add("d", "e"), None, None)
    assert add_to_map(found.map, (("d", "e"),)) == b""
    arguments = promise(b"\x7aHZQ\x90H\x01b\x01cZ", 1)  # a reference before it is nobody's concern
    assert change_map(arguments.map, arguments.add("d", "e"), None, None)


def test_a_key_that_occurs_twice_counts_once() -> None:
    twice = b"H" + b"\x01a\x01x" + b"\x01b\x01y" + b"\x01a\x01z" + b"Z"
    found = promise(twice)
    assert list(found) == [("b", "y"), ("a", "z")]
    assert change_map(found.map, found.add("c", "d"), None, None) == table(
        ("b", "y"), ("a", "z"), ("c", "d")
    )
    path = promise(b"H\x04path\x01x\x04path\x01sZ", path="s")
    assert list(path) == []
    rigid = promise(b"H\x01a\x79N\x01a\x01xZ")
    assert list(rigid) == [("a", "x")]
    with pytest.raises(LocalProtocolError):
        change_map(rigid.map, rigid.add("c", "d"), None, None)


def test_fields_of_one_name_are_joined() -> None:
    found = promise(table(("a", "b")))
    for raw in (
        change_map(found.map, found.add("a", "c"), None, None),
        table(("a", "b"), ("a", "c")),
    ):
        assert raw == table(("a", "b, c"))
    assert add_to_map(found.map, (("d", "1"), ("d", "2"))) == b""


def test_adding_is_short_where_nothing_stands_in_its_way() -> None:
    old = parsed(table(("a", "b")))
    assert add_to_map(old, (("c", "d"), ("e", "f"))) == table(("a", "b"), ("c", "d"), ("e", "f"))
    for name in ("a", "path", "interface", "version"):
        assert add_to_map(old, ((name, "x"),)) == b""
    assert add_to_map(parsed(table(("a", "b")) + b"more"), (("c", "d"),)) == b""


def test_what_follows_the_map_stays_behind_it() -> None:
    found = promise(table(("a", "b")) + b"more")
    assert change_map(found.map, found.add("c", "d"), None, None) == (
        table(("a", "b"), ("c", "d")) + b"more"
    )


def test_the_map_is_found_in_another_body_too() -> None:
    found = promise(b"\x90" + table(("a", "b")), 1)
    assert found.locate(b"\x90" + table(("a", "b")), 0, 1) == 1
    assert found.locate(b"\x01xHZ", 0, 1) == 2
    assert found.locate(b"\x01x", 0, 1) == 2
    with pytest.raises(LocalProtocolError):
        found.locate(b"\x02x", 0, 1)


def test_too_many_are_refused() -> None:
    with pytest.raises(HessianError, match="more than 2"):
        at_once(read_map(many(3), 0, Walk(), 2))


texts = st.text(st.characters(), max_size=8)


@settings(max_examples=150)
@given(st.dictionaries(texts, texts, max_size=5), st.dictionaries(texts, texts, max_size=3))
def test_what_is_written_is_read(pairs: dict[str, str], added: dict[str, str]) -> None:
    found = Attachments(write_map(tuple(pairs.items())), 0, 0, 100, 10_000)
    assert dict(found) == pairs
    more = {**pairs, **added}
    changed = change_map(found.map, Headers.of(more), None, None)
    assert dict(Attachments(changed, 0, 0, 100, 10_000)) == more
    if longer := add_to_map(found.map, tuple(added.items())):
        assert dict(Attachments(longer, 0, 0, 100, 10_000)) == more


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_any_bytes_are_read_or_show_nothing(noise: bytes, keep: int) -> None:
    body = table(("path", "s"), ("group", "blue"), ("k", "v"))[:keep] + noise
    found = promise(body)
    for name, value in found:
        assert write_text(name)
        assert isinstance(value, str)
