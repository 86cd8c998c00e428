"""What a proxy is told while it runs."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from xproxy.config.load import simple
from xproxy.config.schema import Config
from xproxy.proxy.steering import Signals, Steering, receive_signals

PATIENCE = 30.0
CONFIG = simple("127.0.0.1:0", ["127.0.0.1:1"])


@attrs.define(eq=False)
class Played:
    """A runtime."""

    generation: int = 0
    draining: bool = False
    was_cut: int = 0

    async def reload(self, config: Config) -> None:
        assert config is CONFIG
        self.generation += 1

    def stop(self) -> None:
        self.draining = True

    def cut(self) -> None:
        self.was_cut += 1


@asynccontextmanager
async def steering(runtime: Played) -> AsyncIterator[Steering]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            yield Steering(runtime, lambda: CONFIG, nursery)


async def test_a_drain_is_one_and_the_second_signal_cuts() -> None:
    runtime = Played()
    async with steering(runtime) as steer:
        steer.drain("SIGTERM")
        steer.drain("SIGTERM")
        assert (runtime.draining, runtime.was_cut) == (True, 0)
        steer.end("SIGTERM")
        assert runtime.was_cut == 1


async def test_a_reload_says_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    runtime = Played()
    async with steering(runtime) as steer:
        told = trio.Event()
        steer.reload("SIGHUP", told)
        assert not told.is_set()
        await told.wait()
        assert runtime.generation == 1
        runtime.draining = True
        told = trio.Event()
        steer.reload("SIGHUP", told)
        assert told.is_set()
    assert "SIGHUP: ignored, the proxy drains" in caplog.text


async def test_without_a_file_a_reload_is_over_at_once() -> None:
    async with trio.open_nursery() as nursery:
        told = trio.Event()
        Steering(Played(), None, nursery).reload("SIGHUP", told)
        assert told.is_set()


async def _signals(*numbers: signal.Signals) -> AsyncIterator[int]:
    for number in numbers:
        yield number


TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


@pytest.mark.parametrize(
    ("numbers", "alone", "expected"),
    [
        ((TERM,), True, (True, 0)),
        ((INT, TERM), True, (True, 1)),
        ((TERM, TERM, TERM), False, (True, 0)),
        ((INT, INT), False, (False, 0)),
        ((HUP,), False, (False, 0)),
    ],
)
async def test_signals(
    numbers: tuple[signal.Signals, ...], alone: bool, expected: tuple[bool, int]
) -> None:
    runtime = Played()
    async with steering(runtime) as steer:
        await Signals(_signals(*numbers)).steer(steer, lambda: alone)
        assert (runtime.draining, runtime.was_cut) == expected
    assert runtime.generation == 0


async def test_sighup_is_a_reload() -> None:
    runtime = Played()
    async with steering(runtime) as steer:
        await Signals(_signals(HUP)).steer(steer, lambda: True)
    assert runtime.generation == 1


async def test_signals_are_received_within_the_block() -> None:
    runtime = Played()
    with receive_signals() as signals:
        async with steering(runtime) as steer, trio.open_nursery() as nursery:
            nursery.start_soon(signals.steer, steer, lambda: True)
            os.kill(os.getpid(), signal.SIGTERM)
            while not runtime.draining:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
