"""Every pair of a stream's standing and a frame has an answer; the past is told apart as far as it is remembered."""

from __future__ import annotations

import itertools

import pytest

from xproxy.codecs.http2.state import ARRIVALS, Past, Standing, Stream, Verdict
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import DATA, HEADERS, RST_STREAM, WINDOW_UPDATE

KINDS = (HEADERS, DATA, RST_STREAM, WINDOW_UPDATE)


def test_the_table_is_complete() -> None:
    assert set(ARRIVALS) == set(itertools.product(Standing, KINDS))


@pytest.mark.parametrize(("standing", "kind"), ARRIVALS)
def test_verdicts_follow_the_rfc(standing: Standing, kind: int) -> None:
    """RFC 9113 §5.1."""
    verdict, code = ARRIVALS[standing, kind]
    if standing is Standing.IDLE:
        assert (verdict, code) == (Verdict.CONNECTION, ErrorCode.PROTOCOL_ERROR)
    elif standing is Standing.ABANDONED:
        assert verdict is Verdict.IGNORE
    elif kind in (RST_STREAM, WINDOW_UPDATE):
        assert verdict in (Verdict.TAKE, Verdict.IGNORE)
    else:
        assert code is ErrorCode.STREAM_CLOSED


def test_the_past_is_bounded_and_forgets_to_the_peers_good() -> None:
    past = Past()
    for stream_id in range(1, 2 * Past.ABANDONED + 200, 2):
        past.abandon(stream_id)
    assert len(past.abandoned) == Past.ABANDONED
    assert past.standing(1) is Standing.ABANDONED
    assert past.standing(2 * Past.ABANDONED + 199) is Standing.ABANDONED
    assert past.standing(2 * Past.ABANDONED + 201) is Standing.CLOSED


def test_ids_that_were_passed_over_were_never_opened() -> None:
    """§5.1.1."""
    past = Past()
    for first in range(101, 2001, 100):
        past.skip(first, first + 8)
    assert past.standing(1905) is Standing.IDLE
    assert past.standing(1911) is Standing.CLOSED
    assert past.standing(105) is Standing.CLOSED
    assert len(past.skipped) == Past.SKIPPED


def test_a_new_stream_has_nothing_in_it() -> None:
    stream = Stream(receiving=True, sending=False)
    assert (stream.receiving, stream.sending) == (True, False)
    assert (stream.expected, stream.owing) == (-1, -1)
    assert (stream.inbound, stream.outbound, stream.owed, stream.unconsumed) == (0, 0, 0, 0)
