"""What a link remembers, at first."""

from __future__ import annotations

from xproxy.codecs.relay.state import State, Stream
from xproxy.model.traits import Role


def test_a_stream_begins_open_both_ways_with_a_shut_window() -> None:
    stream = Stream()
    assert (stream.speaking, stream.hearing, stream.credit) == (True, True, 0)


def test_no_two_links_share_their_streams() -> None:
    one, other = State(Role.SERVER), State(Role.SERVER)
    one.streams[1] = Stream()
    assert not other.streams
