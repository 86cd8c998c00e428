"""The connection's window: credit is given in large pieces, and never more than came."""

from __future__ import annotations

from xproxy.codecs.http2.flow import Intake
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.wire import window_update
from xproxy.model.limits import Size


def test_credit_is_given_at_half_a_window() -> None:
    intake = Intake(Http2Limits(connection_window_bytes=Size(100_000)))
    assert intake.window == 100_000
    intake.window -= 60_000
    assert intake.give(49_999) == b""
    assert intake.give(1) == window_update(0, 50_000)
    assert intake.window == 90_000
    assert intake.owed == 0


def test_a_small_window_holds_once_the_first_one_is_used_up() -> None:
    intake = Intake(Http2Limits(connection_window_bytes=Size(535)))
    assert intake.window == 65_535
    intake.window -= 65_535
    assert intake.give(65_000) == b""
    assert intake.give(535) == window_update(0, 535)
