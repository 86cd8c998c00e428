"""Asking a silent peer whether it lives."""

from __future__ import annotations

from typing import Protocol

import trio

from xproxy.codecs.api import SupportsHeartbeat
from xproxy.connection.outbox import Outbox
from xproxy.transport.stream import ByteStream


class Watched(Protocol):
    """The connection as its keepalive sees it."""

    outbox: Outbox
    read_at: float
    whole: bool

    @property
    def stream(self) -> ByteStream: ...

    @property
    def streams(self) -> int: ...

    def drain(self) -> None: ...

    def give_up(self, detail: str) -> None: ...


async def keepalive(
    connection: Watched, codec: SupportsHeartbeat, interval: float, timeout: float, misses: int
) -> None:
    """Ask after ``interval`` seconds of silence; give the connection up when ``misses`` questions stay unanswered.

    Any byte is an answer, if it comes within ``timeout`` seconds, read or not. A peer that takes messages may be
    busy with one in its only thread: while some are in flight, within their time, the connection only gets no more of
    them, and the peer is asked again after ``interval``.

    Returns only where the peer's dialect has no such question, or when the connection was given up.
    """
    while True:
        quiet_until = connection.read_at + interval
        if trio.current_time() < quiet_until:
            await trio.sleep_until(quiet_until)
            continue
        for _ in range(misses):
            question = codec.heartbeat()
            if not question:
                return
            asked = trio.current_time()
            outbox = connection.outbox
            taken = outbox.written if outbox.size else -1
            outbox.put(question)
            await trio.sleep_until(asked + timeout)
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
