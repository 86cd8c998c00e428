"""Who belongs to a cluster, and who is told when that changes. Whole proxies: see tests of discoveries and health."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from random import Random

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.live import registry, web
from xproxy.config.discovery import DiscoveryConfig
from xproxy.config.load import load_text
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.balance.round_robin import RoundRobin
from xproxy.upstream.discovery.api import Asked
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.records import CheckRecord
from xproxy.upstream.roster import Roster
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.ticker import Ticker

CHECKS = "[{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, check: tcp}]"


def at(*numbers: int) -> tuple[EndpointConfig, ...]:
    return tuple([EndpointConfig(address=Address("127.0.0.1", number)) for number in numbers])


@attrs.frozen
class Echo:
    """Finds what it is asked about."""

    async def discover(self, asked: Asked) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        yield asked.endpoints
        await trio.sleep_forever()


@attrs.define(eq=False)
class Kit:
    """A cluster's roster, without its cluster."""

    config: ClusterConfig
    previous: Roster | None = None
    removed: list[Endpoint] = attrs.field(factory=list)
    stats: ClusterStats = attrs.field(factory=ClusterStats)
    roster: Roster = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:

        self.roster = Roster(
            "web",
            self.config,
            RoundRobin(Random(1)),
            self.stats,
            Ticker(),
            Random(1),
            self.previous,
            self.removed.extend,
        )

    @property
    def ports(self) -> list[int]:
        return [one.address.port for one in self.roster.members]


def static(*numbers: int) -> ClusterConfig:
    return load_text(web(*numbers), "x", registry()).clusters["web"]


def discovered(*numbers: int, checked: bool = False) -> ClusterConfig:
    config = load_text(web(1, health_checks=CHECKS), "x", registry()).clusters["web"]
    return attrs.evolve(
        config,
        type=DiscoveryConfig(name="echo", options=Echo()),
        endpoints=at(*numbers),
        health_checks=config.health_checks if checked else (),
    )


def pass_check(endpoint: Endpoint) -> None:
    """Let the only check of ``endpoint`` have passed."""
    endpoint.checks = (CheckRecord(),)
    endpoint.checks[0].pending = False


def test_those_of_the_configuration_are_there_and_who_goes_is_returned() -> None:
    kit = Kit(static(1, 2))
    first, second = kit.roster.members
    assert kit.roster.may_become(static(1))
    assert not kit.roster.may_become(discovered(1))
    assert kit.roster.become(static(1, 3), None) == [second]
    assert kit.ports == [1, 3]
    assert kit.roster.members.endpoints[0] is first
    assert kit.stats.membership_total == 2
    assert kit.roster.found() is None, "nothing beyond the configuration"
    assert not kit.removed


def test_what_is_found_takes_the_place_of_what_was() -> None:
    kit = Kit(discovered(1))
    assert (kit.ports, kit.roster.found()) == ([], None)
    kit.roster.learn(at(1, 2))
    kit.roster.learn(at(3))
    assert kit.ports == [1, 2], "something was found already"
    assert kit.roster.found() == at(1, 2)
    assert kit.stats.membership_healthy == 2


async def test_discovery_is_asked_about_the_endpoints_of_the_configuration(
    autojump_clock: MockClock,
) -> None:
    kit = Kit(discovered(1, 2))
    async with trio.open_nursery() as nursery:
        kit.roster.discover(nursery)
        await trio.sleep(1)
        assert kit.ports == [1, 2]
        second = kit.roster.members.endpoints[1]
        assert kit.roster.become(discovered(1), nursery) == ()
        await trio.sleep(1)
        assert kit.ports == [1]
        assert kit.removed == [second]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ignore", [False, True])
async def test_who_is_healthy_stays_unless_something_else_is_asked(
    autojump_clock: MockClock, ignore: bool
) -> None:
    config = attrs.evolve(discovered(1, 2, checked=True), ignore_health_on_host_removal=ignore)
    kit = Kit(config)
    async with trio.open_nursery() as nursery:
        kit.roster.learn(at(1, 2, 3))
        for endpoint in kit.roster.members:
            pass_check(endpoint)
        third = kit.roster.members.endpoints[2]
        kit.roster.discover(nursery)
        await trio.sleep(1)
        assert kit.ports == ([1, 2] if ignore else [1, 2, 3])
        assert kit.roster.found() == kit.roster.members.configs
        third.checks[0].failed = True
        kit.roster.marks.change(third, unfit=Unfit.FAILED_CHECK, on=True)
        kit.roster.lost(third)
        assert (kit.ports, kit.removed) == ([1, 2], [third])
        kit.roster.become(attrs.evolve(config, endpoints=at(1)), nursery)
        await trio.sleep(1)
        assert kit.ports == [1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("numbers", [(1,), (2,)])
def test_who_comes_after_begins_with_what_was_found_for_the_same_question(
    numbers: tuple[int, ...],
) -> None:
    before = Kit(discovered(1))
    before.roster.learn(at(7, 8))
    before.roster.members.endpoints[1].unfit = Unfit.EJECTED
    before.roster.members.endpoints[1].total = 5
    config = attrs.evolve(discovered(*numbers), ignore_health_on_host_removal=True)
    after = Kit(config, before.roster)
    if numbers == (1,):
        assert after.ports == [7, 8]
        assert after.roster.members.endpoints[1].total == 5
        assert not after.roster.members.endpoints[1].unfit, "it does not look at outliers"
        assert after.stats.membership_healthy == 2
    else:
        assert after.ports == []
