"""Field names, sorted by what is done about them."""

from __future__ import annotations

import pytest

from xproxy.codecs.http2 import fields
from xproxy.codecs.http2.fields import KINDS, Kinds, kind_of
from xproxy.codecs.http_fields import NOT_IN_TRAILERS as HTTP1_NOT_IN_TRAILERS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x-a", fields.PLAIN),
        ("expect", fields.PLAIN),
        ("trailer", fields.PLAIN),
        (":path", fields.PSEUDO),
        (":protocol", fields.PSEUDO),
        (":", fields.UNKNOWN_PSEUDO),
        (":x", fields.UNKNOWN_PSEUDO),
        ("connection", fields.FORBIDDEN),
        ("proxy-authorization", fields.HOP),
        ("host", fields.HOST),
        ("content-length", fields.LENGTH),
        ("te", fields.TE),
        ("cookie", fields.COOKIE),
        ("X", fields.INVALID),
        ("", fields.INVALID),
        ("a b", fields.INVALID),
        ("a:b", fields.INVALID),
        ("a\n", fields.INVALID),
    ],
)
def test_kinds(name: str, kind: int) -> None:
    assert kind_of(name) == kind
    assert KINDS[name] == kind


def test_the_memory_is_bounded() -> None:
    kinds = Kinds()
    for number in range(5000):
        kinds[f"x-{number}"]
    assert len(kinds) <= 1024
    kinds["a" * 500]
    assert "a" * 500 not in kinds


def test_trailers_are_http_s() -> None:
    assert fields.NOT_IN_TRAILERS is HTTP1_NOT_IN_TRAILERS
