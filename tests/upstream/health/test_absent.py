"""Discovery × health: the four cases, and what becomes of who stays; then in a whole proxy, which reads a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.live import Live, Upstream, eventually, http_response, read_head, running, upstream
from tests.upstream.discovery.kit import get
from tests.upstream.discovery.test_file import from_file, ports, replace
from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.absent import Absent
from xproxy.upstream.health.records import CheckRecord
from xproxy.upstream.membership import Membership

CHECKS: Final = (
    "    health_checks:\n"
    "      - {timeout: 30s, interval: 50ms, unhealthy_threshold: 1, healthy_threshold: 1,"
    " check: {name: http, path: /fit}}\n"
)


def config(port: int) -> EndpointConfig:
    return EndpointConfig(address=Address("192.0.2.1", port))


@attrs.define(eq=False)
class Bench:
    """A cluster's endpoints by port, as discovery and health make them."""

    membership: Membership = attrs.field(factory=lambda: Membership(()))
    absent: Absent = attrs.field(
        default=attrs.Factory(
            lambda self: Absent(lambda: self.membership.endpoints), takes_self=True
        )
    )

    def find(self, *ports: int) -> None:
        self.membership.change(self.absent.found([config(port) for port in ports]))
        for endpoint in self.membership.endpoints:
            if not endpoint.checks:
                endpoint.checks = (CheckRecord(),)
                endpoint.unfit |= Unfit.UNCHECKED

    def check(self, port: int, *, passes: bool) -> None:
        endpoint = self[port]
        endpoint.unfit = 0 if passes else int(Unfit.FAILED_CHECK)
        after = self.absent.lost(endpoint)
        if after is not None:
            self.membership.change(after)

    def __getitem__(self, port: int) -> Endpoint:
        return next(one for one in self.membership.endpoints if one.address.port == port)

    @property
    def ports(self) -> list[int]:
        return [one.address.port for one in self.membership.endpoints]

    @property
    def routed(self) -> list[int]:
        return [one.address.port for one in self.membership.endpoints if not one.unfit]


def test_found_and_healthy_is_asked_found_and_unhealthy_is_not() -> None:
    web = Bench()
    web.find(1, 2)
    web.check(1, passes=True)
    web.check(2, passes=False)
    assert web.ports == [1, 2]
    assert web.routed == [1]


def test_absent_and_healthy_is_still_asked_until_it_is_not() -> None:
    web = Bench()
    web.find(1, 2, 3)
    for port in (1, 2, 3):
        web.check(port, passes=True)
    kept = web[2]
    web.find(1)
    assert web.routed == [1, 2, 3]
    assert web[2] is kept
    web.check(2, passes=False)
    assert web.ports == [1, 3]
    assert kept.leaving
    web.check(1, passes=False)
    assert web.ports == [1, 3]  # it is found


def test_absent_and_unhealthy_or_not_checked_yet_is_deleted_at_once() -> None:
    web = Bench()
    web.find(1, 2, 3)
    web.check(1, passes=True)
    web.check(2, passes=False)
    web.find()
    assert web.ports == [1]


def test_who_is_found_again_is_the_one_it_was() -> None:
    web = Bench()
    web.find(1)
    web.check(1, passes=True)
    before = web[1]
    web.find(2)
    web.find(2, 1)
    assert web.ports == [2, 1]
    assert web[1] is before
    web.check(1, passes=False)
    assert web.ports == [2, 1]


def test_where_discovery_is_asked_about_something_else_nobody_stays_for_its_health() -> None:
    web = Bench()
    web.find(1, 2)
    web.check(1, passes=True)
    web.check(2, passes=True)
    web.absent.begin_anew()
    web.check(2, passes=False)
    assert web.ports == [1, 2], "until there is an answer"
    web.find(3)
    assert web.ports == [3]


def test_who_is_only_ejected_stays() -> None:
    web = Bench()
    web.find(1)
    web.check(1, passes=True)
    web[1].unfit |= Unfit.EJECTED
    web.find()
    assert web.ports == [1]


STEP = st.one_of(
    st.sets(st.integers(1, 5)),
    st.tuples(st.integers(1, 5), st.booleans()),
)


@given(st.lists(STEP, max_size=30))
def test_against_the_table(steps: list[set[int] | tuple[int, bool]]) -> None:
    web = Bench()
    found: set[int] = set()
    healthy: set[int] = set()
    there: set[int] = set()
    for step in steps:
        if isinstance(step, set):
            found = step
            web.find(*sorted(step))
            there = {port for port in there | found if port in found or port in healthy}
        elif step[0] in there:
            port, passes = step
            web.check(port, passes=passes)
            healthy = healthy | {port} if passes else healthy - {port}
            there = {one for one in there if one in found or one in healthy}
        healthy &= there
        assert set(web.ports) == there
        assert set(web.routed) == healthy


@attrs.define(eq=False)
class Site:
    """Three upstreams, each with its number for an answer, and those that say that they are fit."""

    ups: list[Upstream]
    fit: set[int]

    async def serve(self, number: int) -> None:
        async def answer(stream: trio.SocketStream) -> None:
            while head := await read_head(stream):
                sick = b"/fit" in head and number not in self.fit
                status = "503 No" if sick else "200 OK"
                await stream.send_all(http_response(b"%d" % number, status))

        await self.ups[number].serve(answer)

    def ports(self, *numbers: int) -> list[int]:
        return [self.ups[number].port for number in numbers]


@asynccontextmanager
async def site(*fit: int) -> AsyncIterator[Site]:
    async with (
        upstream() as zero,
        upstream() as one,
        upstream() as two,
        trio.open_nursery() as nursery,
    ):
        found = Site([zero, one, two], set(fit))
        for number in range(3):
            nursery.start_soon(found.serve, number)
        yield found
        nursery.cancel_scope.cancel()


async def checked(live: Live, count: int) -> None:
    """Wait until so many endpoints are found, and each was checked."""
    await eventually(
        lambda: (
            len(live.cluster().endpoints) == count
            and not any(one.unfit & Unfit.UNCHECKED for one in live.cluster().endpoints)
        ),
        f"{count} endpoints are found, and checked",
    )


async def answers(live: Live) -> set[bytes]:
    client = await live.client()
    return {await get(client) for _ in range(6)}


async def test_in_a_proxy_health_outlives_being_found(tmp_path: Path) -> None:
    """Found and failed: not routed. Absent and failed: deleted. Absent and ok: still routed, until it fails."""
    path = tmp_path / "endpoints.yaml"
    async with site(0, 1) as web:
        replace(path, *web.ports(0, 1, 2))
        async with running(from_file(path) + CHECKS) as live:
            stats = live.cluster().stats
            await checked(live, 3)  # before any request
            assert await answers(live) == {b"200 0", b"200 1"}
            kept = live.cluster().endpoints[1]
            replace(path, *web.ports(0))
            await eventually(lambda: len(ports(live)) < 3, "who is absent and fails is deleted")
            assert ports(live) == web.ports(0, 1)
            assert live.cluster().endpoints[1] is kept
            assert await answers(live) == {b"200 0", b"200 1"}
            assert (stats.membership_total, stats.membership_healthy) == (2, 2)
            web.fit.discard(1)
            await eventually(lambda: len(ports(live)) < 2, "who is absent fails, too, now")
            assert ports(live) == web.ports(0)
            assert await answers(live) == {b"200 0"}
            assert (stats.membership_total, stats.membership_healthy) == (1, 1)
            await eventually(lambda: kept.drained, "its connections end")
            replace(path, *web.ports(0, 1))
            await checked(live, 2)
            assert await answers(live) == {b"200 0"}, "it is found, and still fails"


async def test_in_a_proxy_it_may_be_removed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    async with site(0, 1) as web:
        replace(path, *web.ports(0, 1))
        text = from_file(path) + CHECKS + "    ignore_health_on_host_removal: true\n"
        async with running(text) as live:
            await checked(live, 2)
            replace(path, *web.ports(0))
            await eventually(lambda: len(ports(live)) < 2, "it is removed")
            assert ports(live) == web.ports(0)
            assert await answers(live) == {b"200 0"}


async def test_in_a_proxy_an_ejected_one_that_fails_is_deleted_too(tmp_path: Path) -> None:
    """It was unfit already: that a check fails as well is no smaller loss."""
    path = tmp_path / "endpoints.yaml"
    async with site(0, 1) as web:
        replace(path, *web.ports(0, 1))
        async with running(from_file(path) + CHECKS) as live:
            await checked(live, 2)
            kept = live.cluster().endpoints[1]
            kept.unfit |= Unfit.EJECTED
            replace(path, *web.ports(0, 2))
            await eventually(lambda: len(ports(live)) == 3, "one more is found")
            assert set(ports(live)) == set(web.ports(0, 1, 2))
            web.fit.discard(1)
            await eventually(lambda: len(ports(live)) == 2, "it is deleted")
            assert ports(live) == web.ports(0, 2)


async def test_a_reload_keeps_who_is_kept_and_what_is_known_of_each(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    async with site(0, 1) as web:
        replace(path, *web.ports(0, 1))
        text = from_file(path) + CHECKS
        async with running(text) as live:
            await checked(live, 2)
            replace(path, *web.ports(0, 2))
            await checked(live, 3)
            assert ports(live) == web.ports(0, 2, 1)
            before = live.cluster()
            await live.reload(text + "    connect_timeout: 7s\n")
            cluster = live.cluster()
            assert cluster is not before
            assert ports(live) == web.ports(0, 2, 1)
            assert [one.unfit for one in cluster.endpoints] == [0, Unfit.FAILED_CHECK, 0]
            stats = cluster.stats
            counted = stats.membership_total, stats.membership_healthy, stats.membership_excluded
            assert counted == (3, 2, 0)
            assert await answers(live) == {b"200 0", b"200 1"}
            web.fit.add(2)
            await eventually(lambda: cluster.endpoints[1].unfit == 0, "checks go on")
            assert await answers(live) == {b"200 0", b"200 1", b"200 2"}
