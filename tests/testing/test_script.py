"""Arrows hold, or say which one did not and what came instead."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from xproxy.testing.script import BROKEN, END, NOTHING, Party, ScriptFailed, play


def parties() -> tuple[Party, Party, trio.abc.AsyncResource]:
    left, right = memory_stream_pair()
    return Party("client", left), Party("upstream", right), left


async def test_arrows_hold_in_order(autojump_clock: MockClock) -> None:
    client, upstream, left = parties()
    await play(
        client >> b"hello ",
        client >> b"world",
        upstream << b"hello",
        upstream << re.compile(rb" (w\w+d)"),
        upstream << NOTHING,
        upstream >> b"bye",
        client << b"bye",
    )
    await left.aclose()
    await play(upstream << END)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (b"help", "arrow 2: upstream should get b'help', but other bytes came; unread: b'hello'"),
        (b"hello you", "but nothing more came; unread: b'hello'"),
        (re.compile(b"x"), "but nothing more came"),
        (END, "should get the end of the input, but bytes came"),
        (NOTHING, "should get nothing, but bytes came"),
        (b"hell", "after the last arrow: upstream also got b'o'"),
    ],
)
async def test_a_wrong_arrow_says_what_came(
    autojump_clock: MockClock, expected: bytes, words: str
) -> None:
    client, upstream, _ = parties()
    with pytest.raises(ScriptFailed, match=re.escape(words)):
        await play(client >> b"hello", upstream << expected)


async def test_an_end_is_not_nothing(autojump_clock: MockClock) -> None:
    _, upstream, left = parties()
    await left.aclose()
    with pytest.raises(ScriptFailed, match="should get nothing, but the end of the input"):
        await play(upstream << NOTHING)
    with pytest.raises(ScriptFailed, match="should get b'x', but the end of the input"):
        await play(upstream << b"x")


async def test_a_broken_connection_can_be_expected() -> None:
    class Reset:
        async def send_all(self, data: bytes) -> None:
            raise trio.BrokenResourceError

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise trio.BrokenResourceError

    party = Party("client", Reset())
    await play(party << BROKEN)
    with pytest.raises(ScriptFailed, match="arrow 1: client cannot send"):
        await play(party >> b"x")
