"""Costly sockets that have much to read: the loop looks at all others every now and then, whoever is about."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.transport.ends import HERE, THERE, polling, unix_pair
from xproxy.transport.poller import PolledSocket
from xproxy.transport.turns import ALONE, ROUND, SLICE, Turns

READS = 60
"""Of each costly socket."""


class Clock:
    """Seconds, which pass only while somebody works."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


def fill(sock: socket.socket) -> None:
    """Send as much as the kernel takes."""
    try:
        while sock.send(bytes(65536)):
            pass
    except BlockingIOError:
        pass


@pytest.mark.parametrize("pressed", [True, False])
@pytest.mark.parametrize("count", [1, 3, 40])
async def test_no_round_is_long_however_many_have_much_to_read(
    count: int, pressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    rounds: list[float] = []
    sizes: list[int] = []
    tick = Turns.tick

    def told(turns: Turns) -> None:
        if turns.looked_at:
            rounds.append(clock.now - turns.looked_at)
        if pressed:
            turns.pressed_until = clock.now + 1.0
        tick(turns)

    async def hog(stream: PolledSocket, theirs: socket.socket) -> None:
        for _ in range(READS):
            fill(theirs)
            size = len(await stream.read())
            sizes.append(size)
            clock.now += size * 0.25e-6  # 16 KiB are 4 ms
            stream.settle()

    async with polling(lambda of: Turns(of.idle, clock, clock, lambda: 0)) as poller:
        monkeypatch.setattr(Turns, "tick", told)
        pairs = [unix_pair() for _ in range(count)]
        streams = [poller.add(ours, THERE, HERE) for ours, _ in pairs]
        async with trio.open_nursery() as nursery:
            for stream, (_, theirs) in zip(streams, pairs, strict=True):
                theirs.setblocking(False)
                nursery.start_soon(hog, stream, theirs)
        for stream, (_, theirs) in zip(streams, pairs, strict=True):
            stream.close()
            theirs.close()
    most = ROUND + 6 * SLICE if pressed else 3 * ALONE
    assert sum(sizes) > count * READS * 1024
    # Of somebody who has not read yet nothing is known: once, its read is long. When that is chance says.
    assert max(rounds) <= 0.032
    assert sum(1 for one in rounds if one > most) <= count
