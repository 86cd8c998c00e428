"""Asking a silent peer whether it lives."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from xproxy.codecs.api import SupportsHeartbeat, supports
from xproxy.connection.shared.wire import SharedWire


async def keepalive(
    wire: SharedWire,
    interval: float,
    timeout: float,
    misses: int,
    pause: float = 0.0,
    give_up: Callable[[str], None] | None = None,
) -> None:
    """Ask after ``interval`` seconds of silence; give the connection up when ``misses`` questions stay unanswered.

    Any byte is an answer, if it comes within ``timeout`` seconds, read or not. A peer that takes messages may be
    busy with one in its only thread: while some are in flight, within their time, the connection only gets no more of
    them, and the peer is asked again after ``interval``.

    ``pause``: a peer that has said nothing but answers since it was asked is left alone for so long, and it is asked
    once and not ``misses`` times (``Traits.heartbeat_pause``).

    ``give_up``: what is done at the end, where that is more than the wire's own. Who stands still is not asked.

    Returns only where the peer's dialect, or its protocol, has no such question, or when the connection was given up.
    """
    asked = -math.inf
    while True:
        quiet_until = wire.read_at + interval
        now = trio.current_time()
        if wire.spoken_at <= asked and now < asked + pause:
            # It may speak at any moment, and fall silent again.
            quiet_until = max(quiet_until, min(asked + pause, now + interval))
        if now < quiet_until:
            await trio.sleep_until(quiet_until)
            continue
        if wire.paused:
            await trio.sleep(timeout)
            continue
        for miss in range(misses):
            outbox = wire.outbox
            waited = trio.current_time()
            taken = outbox.written if outbox.size else -1
            if not (miss and pause):
                codec = wire.codec
                question = codec.heartbeat() if supports(codec, SupportsHeartbeat) else b""
                if not question:
                    return
                asked = waited
                outbox.put(question)
            await trio.sleep_until(waited + timeout)
            if wire.read_at >= asked or wire.stream.pending or wire.paused:
                break  # or we are: what it has said is there, and waits to be read
            if 0 <= taken < outbox.written:
                break  # it is busy taking what stood before the question
        else:
            if wire.whole and wire.streams:
                wire.goodbye()
                await trio.sleep_until(trio.current_time() + interval)
                continue
            (give_up or wire.give_up)(
                f"answered none of {misses} heartbeats (keepalive.max_misses)"
            )
            return
