"""Asking a silent peer whether it lives."""

from __future__ import annotations

import math
from typing import Protocol

import trio

from xproxy.codecs.api import SupportsHeartbeat
from xproxy.connection.shared.outbox import Outbox
from xproxy.transport.stream import ByteStream


class Watched(Protocol):
    """The connection as its keepalive sees it."""

    outbox: Outbox
    read_at: float
    spoken_at: float
    whole: bool

    @property
    def stream(self) -> ByteStream: ...

    @property
    def streams(self) -> int: ...

    def drain(self) -> None: ...

    def give_up(self, detail: str) -> None: ...


async def keepalive(
    connection: Watched,
    codec: SupportsHeartbeat,
    interval: float,
    timeout: float,
    misses: int,
    pause: float = 0.0,
) -> None:
    """Ask after ``interval`` seconds of silence; give the connection up when ``misses`` questions stay unanswered.

    Any byte is an answer, if it comes within ``timeout`` seconds, read or not. A peer that takes messages may be
    busy with one in its only thread: while some are in flight, within their time, the connection only gets no more of
    them, and the peer is asked again after ``interval``.

    ``pause``: a peer that has said nothing but answers since it was asked is left alone for so long, and it is asked
    once and not ``misses`` times (``Traits.heartbeat_pause``).

    Returns only where the peer's dialect has no such question, or when the connection was given up.
    """
    asked = -math.inf
    while True:
        quiet_until = connection.read_at + interval
        now = trio.current_time()
        if connection.spoken_at <= asked and now < asked + pause:
            # It may speak at any moment, and fall silent again.
            quiet_until = max(quiet_until, min(asked + pause, now + interval))
        if now < quiet_until:
            await trio.sleep_until(quiet_until)
            continue
        for miss in range(misses):
            outbox = connection.outbox
            waited = trio.current_time()
            taken = outbox.written if outbox.size else -1
            if not (miss and pause):
                question = codec.heartbeat()
                if not question:
                    return
                asked = waited
                outbox.put(question)
            await trio.sleep_until(waited + timeout)
            if connection.read_at >= asked or connection.stream.pending:
                break  # or we are: what it has said is there, and waits to be read
            if 0 <= taken < outbox.written:
                break  # it is busy taking what stood before the question
        else:
            if connection.whole and connection.streams:
                connection.drain()
                await trio.sleep_until(trio.current_time() + interval)
                continue
            connection.give_up(f"answered none of {misses} heartbeats (keepalive.max_misses)")
            return
