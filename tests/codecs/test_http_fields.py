"""What a field name means, and that remembering it is bounded."""

from __future__ import annotations

import pytest

from xproxy.codecs.http_fields import (
    CONNECTION,
    HOP,
    HOST,
    INVALID,
    LENGTH,
    PLAIN,
    TRANSFER,
    Kinds,
    kind_of,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Accept", PLAIN),
        ("X-Any_thing.at~all", PLAIN),
        ("cOnNeCtIoN", CONNECTION),
        ("HOST", HOST),
        ("content-length", LENGTH),
        ("Transfer-Encoding", TRANSFER),
        ("Keep-Alive", HOP),
        ("Proxy-Authorization", HOP),
        ("HTTP2-Settings", HOP),
        ("", INVALID),
        ("a b", INVALID),
        ("a:", INVALID),
        ("\u00e9", INVALID),
        ("\u212a", INVALID),  # the Kelvin sign, whose lower case is an ASCII k
        ("a\n", INVALID),
    ],
)
def test_a_name_has_one_meaning(name: str, kind: int) -> None:
    assert kind_of(name) == kind
    assert Kinds()[name] == kind


def test_remembering_names_is_bounded() -> None:
    kinds = Kinds()
    for number in range(5000):
        assert kinds[f"x-{number}"] == PLAIN
    assert len(kinds) <= 1024
    assert kinds["y" * 65] == PLAIN
    assert "y" * 65 not in kinds
