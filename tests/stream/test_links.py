"""Chains of links: followed to their end, and made anew by whoever made them."""

from __future__ import annotations

import pytest

from xproxy.stream.body import BytesBody
from xproxy.stream.links import MAX_LINKS, Note, Stays, chain_of, places
from xproxy.stream.wrapped import WrappedBody


class Link:
    def __init__(self, within: object | None, by: str = "") -> None:
        self.within = within
        self.by = by
        self.departed = False

    def note(self) -> tuple[object | None, Note | None]:
        return self.within, Note(self.by) if self.by else None

    def depart(self) -> None:
        self.departed = True


def test_a_chain_is_followed_to_its_end() -> None:
    innermost = Link(None)
    middle = Link(innermost, "a")
    outermost = Link(middle, "b")
    chain = chain_of(outermost)
    assert chain.links == (outermost, middle, innermost)
    assert chain.notes == (Note("a"), Note("b"))
    assert chain.innermost is innermost


def test_who_cannot_say_what_it_is_is_named() -> None:
    with pytest.raises(Stays, match="BytesBody cannot say what it is"):
        chain_of(Link(BytesBody()))

    class Somebodys(WrappedBody):
        pass

    with pytest.raises(Stays, match="Somebodys cannot say what it is"):
        chain_of(Somebodys(BytesBody()))


def test_a_circle_has_an_end() -> None:
    link = Link(None)
    link.within = link
    with pytest.raises(Stays, match=str(MAX_LINKS)):
        chain_of(link)


def test_each_link_finds_its_maker() -> None:
    names = ["log", "limit", "router", "limit", "log"]
    assert places([Note("log"), Note("limit"), Note("limit")], names) == [0, 1, 3]
    assert places([Note("router"), Note("log")], names) == [2, 4]
    assert places([], []) == []
    for lacking in ([Note("retry")], [Note("router"), Note("router")]):
        with pytest.raises(ValueError, match="there is no filter"):
            places(lacking, names)


async def test_a_body_that_departed_tells_nothing_any_more() -> None:
    told: list[object] = []

    class Telling(WrappedBody):
        def ended(self, how: object) -> None:
            told.append(how)

    body = Telling(BytesBody(b"x"))
    body.depart()
    body.depart()
    await body.aclose()
    assert body.over
    assert not told
