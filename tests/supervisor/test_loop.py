"""The loop of the supervisor."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from xproxy.supervisor.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    found.after(30.0, lambda: pytest.fail("nothing ended the loop"))
    yield found
    found.close()


def test_timers_in_order_and_not_those_that_were_cancelled(loop: Loop) -> None:
    called: list[int] = []
    loop.after(0.03, loop.stop)
    loop.after(0.02, lambda: called.append(2))
    loop.after(0.01, lambda: called.append(1))
    loop.after(0.0, lambda: called.append(0)).cancel()
    loop.run()
    assert called == [1, 2]


def test_descriptors_to_read_and_to_write(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        said: list[str] = []

        def heard() -> None:
            said.append(theirs.recv(10).decode())
            loop.watch(theirs, loop.stop, writing=True)

        loop.watch(theirs, heard)
        ours.send(b"hello")
        loop.run()
        assert said == ["hello"]
        loop.forget(theirs)
        loop.forget(theirs)


def test_one_that_was_forgotten_in_the_same_round_is_not_called(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def call(n: int) -> None:
        called.append(n)
        loop.forget(pairs[1 - n][1])
        loop.stop()

    for n, (ours, theirs) in enumerate(pairs):
        loop.watch(theirs, lambda n=n: call(n))  # type: ignore[misc]  # a default that binds
        ours.send(b"x")
    loop.run()
    assert len(called) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_signals_are_called_in_the_loop(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    found: list[int] = []

    def heard(number: int) -> None:
        found.append(number)
        loop.stop()

    try:
        loop.signals([signal.SIGUSR1], heard)
        loop.after(0.0, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        loop.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found == [signal.SIGUSR1]
