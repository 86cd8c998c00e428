"""Reloads one at a time, beside everything else."""

from __future__ import annotations

import logging
import threading

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.config.load import simple
from xproxy.config.schema import Config
from xproxy.model.errors import ConfigError
from xproxy.proxy.reload import FILE_SECONDS, Reloader

CONFIG = simple("127.0.0.1:0", ["127.0.0.1:1"])
_PATIENCE = 10.0


@attrs.define(eq=False)
class Running:
    """Takes configurations; holds them up until ``gate`` opens, if there is one."""

    generation: int = 0
    gate: trio.Event | None = None

    async def reload(self, config: Config) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.generation += 1


async def test_without_a_file_there_is_nothing_to_reload(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        Reloader(Running(), None, nursery).ask()
    assert "no configuration file" in caplog.text


async def test_asked_again_meanwhile_it_reloads_once_more_and_not_twice() -> None:
    runtime = Running(gate=trio.Event())
    loads: list[None] = []

    def load() -> Config:
        loads.append(None)
        return CONFIG

    with trio.fail_after(_PATIENCE):
        async with trio.open_nursery() as nursery:
            reloader = Reloader(runtime, load, nursery)
            reloader.ask()
            while not loads:  # a thread's list wakes nobody
                await trio.lowlevel.checkpoint()
            reloader.ask()
            reloader.ask()
            assert runtime.gate is not None
            runtime.gate.set()
    assert (runtime.generation, len(loads)) == (2, 2)


async def test_what_is_wrong_is_told_and_the_next_one_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = Running()
    faults = [ConfigError("line 3 is wrong")]

    def load() -> Config:
        if faults:
            raise faults.pop()
        return CONFIG

    for wanted in (0, 1):
        async with trio.open_nursery() as nursery:
            Reloader(runtime, load, nursery).ask()
        assert runtime.generation == wanted
    assert "nothing has changed: line 3 is wrong" in caplog.text


async def test_a_file_that_never_comes_is_given_up_and_cancelling_waits_for_nobody(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    never = threading.Event()

    def load() -> Config:
        never.wait(_PATIENCE)
        return CONFIG

    runtime = Running()
    try:
        async with trio.open_nursery() as nursery:
            reloader = Reloader(runtime, load, nursery)
            reloader.ask()
            await wait_all_tasks_blocked()
            mock_clock.jump(FILE_SECONDS)
        assert f"not read within {FILE_SECONDS:g} s" in caplog.text
        async with trio.open_nursery() as nursery:
            reloader = Reloader(runtime, load, nursery)
            reloader.ask()
            reloader.ask()
            await wait_all_tasks_blocked()
            reloader.cancel()
        assert runtime.generation == 0
    finally:
        never.set()
