from __future__ import annotations

import pytest

from xproxy.config.schema import PathMatch, StringMatch
from xproxy.routing.keys import Key, Place, host_keys, name_keys, path_keys, service_keys, text_keys


def whole(text: str, *, proves: bool = True) -> Key:
    return Key(Place.WHOLE, text, proves)


@pytest.mark.parametrize(
    ("patterns", "keys"),
    [
        (("A.lab.", "a.lab", "b:080"), (whole("a.lab"), whole("b:80"))),
        (("*.A.lab.:80",), (Key(Place.END, ".a.lab"),)),
        (("a.*",), (Key(Place.START, "a."),)),
        (("a:*",), (whole("a", proves=False),)),
        (("a", "*"), ()),
        (("*:80",), ()),
        ((), ()),
    ],
)
def test_hosts_are_looked_up_at_their_plainest(
    patterns: tuple[str, ...], keys: tuple[Key, ...]
) -> None:
    assert host_keys(patterns) == keys


def test_paths_are_looked_up_whole_or_by_how_they_begin() -> None:
    assert path_keys(PathMatch(exact="/a/")) == (whole("/a/"),)
    assert path_keys(PathMatch(prefix="/a")) == (Key(Place.START, "/a", True),)
    inside = Key(Place.START, "/a/", True)
    assert path_keys(PathMatch(segment_prefix="/a//")) == (whole("/a"), inside)
    assert path_keys(PathMatch(segment_prefix="/")) == (Key(Place.START, "/", True),)
    assert path_keys(PathMatch(regex="/a")) == ()


def test_a_service_is_looked_up_in_all_its_spellings() -> None:
    keys = service_keys(StringMatch(exact="A:80"))
    assert keys == (whole("A:80"), whole("a:80", proves=False), whole("a", proves=False))
    assert service_keys(StringMatch(prefix="lab.")) == (Key(Place.START, "lab.", True),)


def test_a_name_is_looked_up_in_lower_case() -> None:
    assert name_keys(StringMatch(exact="A.Lab.")) == (whole("a.lab"),)
    assert name_keys(StringMatch(prefix="A.")) == (Key(Place.START, "a.", True),)
    assert name_keys(StringMatch(suffix=".LAB.")) == (Key(Place.END, ".lab", True),)


@pytest.mark.parametrize(
    "match",
    [
        StringMatch(exact="a", invert=True),
        StringMatch(contains="a"),
        StringMatch(regex="a"),
        StringMatch(present=True),
    ],
)
def test_what_is_not_named_is_not_looked_up(match: StringMatch) -> None:
    assert text_keys(match) == service_keys(match) == name_keys(match) == ()
