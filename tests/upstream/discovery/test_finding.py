"""A discovery is asked from the first request on; its last answer stays whatever becomes of it."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from random import Random

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.discovery import finding
from xproxy.upstream.discovery.api import Asked
from xproxy.upstream.discovery.finding import FIRST_ANSWER_SECONDS, MOST_ENDPOINTS, Finding
from xproxy.upstream.stats import ClusterStats


def at(*ports: int) -> tuple[EndpointConfig, ...]:
    return tuple(EndpointConfig(address=Address("127.0.0.1", port)) for port in ports)


Script = Callable[[Asked, int], AsyncGenerator[Sequence[EndpointConfig], None]]


@attrs.define(eq=False)
class Scripted:
    """Gives what a script gives, which is told how often it was called before."""

    script: Script
    calls: int = 0
    open: int = 0

    async def discover(self, asked: Asked) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        self.calls += 1
        self.open += 1
        try:
            async with aclosing(self.script(asked, self.calls - 1)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self.open -= 1


@attrs.define(eq=False)
class Kit:
    script: Script
    taken: list[tuple[EndpointConfig, ...]] = attrs.field(factory=list)
    stats: ClusterStats = attrs.field(factory=ClusterStats)
    discovery: Scripted = attrs.field(init=False)
    finding: Finding = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.discovery = Scripted(self.script)
        self.finding = Finding("web", self.discovery, self.stats, self._take, Random(1))

    def _take(self, endpoints: Sequence[EndpointConfig]) -> None:
        self.taken.append(tuple(endpoints))


async def two_answers(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
    yield at(1)
    await trio.sleep(10)
    yield list(at(1))  # the same
    await trio.sleep(10)
    yield at(1, 2)
    await trio.sleep_forever()


async def test_each_answer_that_is_another_is_taken(autojump_clock: MockClock) -> None:
    kit = Kit(two_answers)
    async with trio.open_nursery() as nursery:
        kit.finding.begin(nursery, ())
        kit.finding.begin(nursery, ())
        assert await kit.finding.wait()
        await trio.sleep(25)
        assert kit.taken == [at(1), at(1, 2)]
        assert (kit.stats.discovery_updates, kit.stats.discovery_failed) == (2, 0)
        counted = [kit.discovery.calls, kit.discovery.open]
        nursery.cancel_scope.cancel()
    assert [*counted, kit.discovery.open] == [1, 1, 0], "it is closed with its cluster"


async def test_the_wait_for_the_first_answer_has_an_end(autojump_clock: MockClock) -> None:
    async def silent(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        await trio.sleep(math.inf)
        yield ()

    kit = Kit(silent)
    async with trio.open_nursery() as nursery:
        kit.finding.begin(nursery, ())
        began = trio.current_time()
        assert not await kit.finding.wait()
        assert trio.current_time() - began == pytest.approx(FIRST_ANSWER_SECONDS)
        nursery.cancel_scope.cancel()


async def test_an_empty_answer_is_an_answer(autojump_clock: MockClock) -> None:
    async def nobody(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        yield ()
        await trio.sleep_forever()

    kit = Kit(nobody)
    async with trio.open_nursery() as nursery:
        kit.finding.begin(nursery, ())
        assert await kit.finding.wait()
        assert kit.taken == [()]
        nursery.cancel_scope.cancel()


async def test_what_raises_or_ends_is_called_again_later_and_later_and_told_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        if call == 0:
            yield at(1)
        if call < 6:
            raise RuntimeError("no")
        if call < 7:
            return
        yield at(2)
        await trio.sleep_forever()

    kit = Kit(failing)
    caplog.set_level(logging.INFO)
    async with trio.open_nursery() as nursery:
        kit.finding.begin(nursery, ())
        await trio.sleep(1.2)
        assert kit.taken == [at(1)], "the last answer stays"
        await trio.sleep(300)
        assert kit.taken == [at(1), at(2)]
        nursery.cancel_scope.cancel()
    assert kit.stats.discovery_failed == 7
    assert kit.discovery.open == 0
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "cluster web: endpoints not found (the last answer stays): RuntimeError: no",
        "cluster web: endpoints not found (the last answer stays): it has ended",
        "cluster web: its endpoints are found again",
    ]


async def test_no_answer_is_taken_that_is_none(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MOST_ENDPOINTS", 2)
    answers: list[object] = [at(1, 2, 3), ["127.0.0.1:1"], at(1, 2)]

    async def odd(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        yield answers[call]  # type: ignore[misc]  # that is what is refused
        await trio.sleep_forever()

    kit = Kit(odd)
    async with trio.open_nursery() as nursery:
        kit.finding.begin(nursery, ())
        await trio.sleep(10)
        assert kit.taken == [at(1, 2)]
        assert kit.stats.discovery_failed == 2
        nursery.cancel_scope.cancel()
    assert MOST_ENDPOINTS == 65_536


async def test_a_discovery_that_never_waits_leaves_the_processor_to_others(
    autojump_clock: MockClock,
) -> None:
    async def busy(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        port = 0
        while True:
            port += 1
            yield at(port % 9 + 1)

    kit = Kit(busy)
    async with trio.open_nursery() as nursery:
        kit.finding.begin(nursery, ())
        await trio.sleep(1)
        assert 10 <= len(kit.taken) <= 25
        nursery.cancel_scope.cancel()


async def test_it_is_asked_about_other_endpoints_from_a_change_on(
    autojump_clock: MockClock,
) -> None:
    async def echo(asked: Asked, call: int) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        yield asked.endpoints
        await trio.sleep_forever()

    kit = Kit(echo)
    async with trio.open_nursery() as nursery:
        kit.finding.restart(nursery, at(9))
        await wait_all_tasks_blocked()
        assert not kit.discovery.calls, "nobody has used it yet"
        kit.finding.begin(nursery, at(1))
        await trio.sleep(1)
        kit.finding.restart(nursery, at(2))
        await trio.sleep(1)
        assert kit.taken == [at(1), at(2)]
        assert kit.discovery.open == 1
        nursery.cancel_scope.cancel()


async def test_it_begins_with_what_somebody_else_has_found(autojump_clock: MockClock) -> None:
    kit = Kit(two_answers)
    kit.finding.learn(at(7))
    kit.finding.learn(at(8))
    assert kit.taken == [at(7)]
    assert await kit.finding.wait()
