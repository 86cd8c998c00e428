"""What we say first (RFC 9113 §3.4): our settings, and the connection's window."""

from __future__ import annotations

from xproxy.codecs.http2.limits import (
    FIRST_FRAME_BYTES,
    FIRST_TABLE_BYTES,
    FIRST_WINDOW,
    Http2Limits,
)
from xproxy.codecs.http2.wire import PREFACE, Setting, settings, window_update
from xproxy.model.limits import Limits
from xproxy.model.traits import Role


def greeting(role: Role, limits: Limits, own: Http2Limits) -> bytes:
    """Return our preface."""
    values: list[tuple[int, int]] = [(Setting.INITIAL_WINDOW_SIZE, own.first_window)]
    if role is Role.CLIENT:
        values.insert(0, (Setting.ENABLE_PUSH, 0))
    else:
        values.insert(0, (Setting.MAX_CONCURRENT_STREAMS, own.streams_within(limits)))
        if own.extended_connect:
            values.append((Setting.ENABLE_CONNECT_PROTOCOL, 1))
    if own.table_bytes != FIRST_TABLE_BYTES:
        values.append((Setting.HEADER_TABLE_SIZE, own.table_bytes))
    if own.frame_bytes != FIRST_FRAME_BYTES:
        values.append((Setting.MAX_FRAME_SIZE, own.frame_bytes))
    values.append((Setting.MAX_HEADER_LIST_SIZE, limits.max_head_bytes))
    first = settings(values)
    more = own.connection_window_bytes - FIRST_WINDOW
    if more > 0:
        first += window_update(0, more)
    return PREFACE + first if role is Role.CLIENT else first
