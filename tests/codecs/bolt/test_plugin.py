"""The plugin bolt keeps the codec contract and knows its own by their first bytes."""

from __future__ import annotations

import pytest

from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.bolt.plugin import EXAMPLES, PLUGIN
from xproxy.testing import check_codec


def test_conformance() -> None:
    check_codec(PLUGIN)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_prefix_of_an_example_asks_for_more_until_the_head_is_there(example: bytes) -> None:
    size = 24 if example[0] == 2 else 22
    for length in range(size):
        verdict = PLUGIN.detect(example[:length], NO_HINT)
        assert verdict.kind is VerdictKind.MORE
        assert length < verdict.at_least <= size
    assert PLUGIN.detect(example[:size], NO_HINT).kind is VerdictKind.YES
    assert PLUGIN.detect(example * 3, NO_HINT).kind is VerdictKind.YES


@pytest.mark.parametrize(
    "prefix",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"\xda\xbb",
        b"\x80\x01\x00\x01",
        b"\x00",
        b"\x03",
        b"\x01\x03",
        b"\x01\x01\x01\x00",
        b"\x02\x00",
        b"\x02\x01\x03",
        b"\x02\x01\x01\x00\x03",
        EXAMPLES[0][:18] + b"\xff\xff\xff\xff",
    ],
)
def test_others_are_not_taken(prefix: bytes) -> None:
    assert PLUGIN.detect(prefix, NO_HINT).kind is VerdictKind.NO
