"""Discovery × health, with a discovery of the test's: the four cases, and what becomes of who stays."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.absent import Absent
from xproxy.upstream.health.records import CheckRecord
from xproxy.upstream.membership import Membership


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
