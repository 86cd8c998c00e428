"""The streams that the kit makes, and the ways it reads them."""

from __future__ import annotations

from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.model.frames import Data, Head, Trailers
from xproxy.model.traits import Role
from xproxy.testing.fakes.lines import LINES
from xproxy.testing.fakes.pieces import PIECES
from xproxy.testing.reading import (
    Reader,
    Stream,
    at_random,
    byte_by_byte,
    exchanges,
    in_two,
    read,
    record,
    whole,
)
from xproxy.testing.subject import Subject


def test_the_ways_to_cut_lose_nothing() -> None:
    data = bytes(range(200))
    for cut in (whole, byte_by_byte, at_random(1), in_two(77)):
        assert b"".join(cut(data)) == data
    assert list(at_random(1)(data)) == list(at_random(1)(data))
    assert list(in_two(3)(b"abcde")) == [b"abc", b"de"]


def test_conversations_follow_the_traits() -> None:
    assert [name for name, _ in exchanges(Subject(LINES))] == ["whole messages", "oneway"]
    names = dict(exchanges(Subject(PIECES)))
    assert list(names) == ["whole messages", "bodies in pieces"]
    assert isinstance(names["bodies in pieces"][0][0][-1], Trailers)


def test_a_serial_client_reads_one_response_for_each_request() -> None:
    streams = record(Subject(HTTP1))
    to_client = next(s for s in streams if s.role is Role.CLIENT)
    assert len(to_client.segments) == len(to_client.requests) == 3


def test_a_reader_answers_each_request_so_that_the_next_one_comes() -> None:
    subject = Subject(HTTP1)
    stream = next(s for s in record(subject) if s.role is Role.SERVER)
    reader = read(subject, stream, whole)
    assert sum(isinstance(f, Head) for f in reader.frames) == 3
    assert not reader.refused


def test_a_reader_does_not_answer_oneway() -> None:
    subject = Subject(LINES)
    stream = Stream("oneway", Role.SERVER, (b"~o 5 a b 0 -\n",))
    assert read(subject, stream, whole).refused == []


def test_a_reader_looks_and_acts_apart() -> None:
    subject = Subject(HTTP1)
    stream = next(s for s in record(subject) if s.role is Role.SERVER)
    reader = Reader(subject, stream)
    reader.look(stream.data)
    assert sum(isinstance(f, Head) for f in reader.frames) == 1
    reader.act()
    assert sum(isinstance(f, Head) for f in reader.frames) == 3


def test_a_reader_gives_credit_for_what_it_reads() -> None:
    subject = Subject(PIECES)
    stream = next(s for s in record(subject) if "pieces" in s.name and s.role is Role.SERVER)
    reader = read(subject, stream, byte_by_byte)
    assert any(isinstance(f, Data) for f in reader.frames)
    assert not reader.violated
