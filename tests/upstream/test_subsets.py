"""Subsets by metadata: which a request gets, the three fallbacks, and that there is a bound to them."""

from __future__ import annotations

from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.live import running, upstream, web
from tests.upstream.balance.test_api import REQUEST
from tests.upstream.test_keyed_requests import call, calls
from xproxy.config.balancing import BalancingConfig, SubsetsConfig
from xproxy.model.address import Address
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request
from xproxy.upstream.balance.round_robin import RoundRobin
from xproxy.upstream.choice import Choice
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.subsets import SubsetChoice, chooser, parts_of

SOME = [
    ("v1", "prod"),
    ("v1", "prod"),
    ("v1", "dev"),
    ("v2", "dev"),
]


def endpoints() -> list[Endpoint]:
    return [
        Endpoint(Address("127.0.0.1", 1 + i), metadata={"version": version, "stage": stage})
        for i, (version, stage) in enumerate(SOME)
    ]


def choice_of(
    subsets: SubsetsConfig, some: list[Endpoint], stats: ClusterStats | None = None
) -> SubsetChoice:
    found = chooser(
        RoundRobin(Random(1)),
        some,
        BalancingConfig(subsets=subsets),
        stats or ClusterStats(),
        Random(1),
    )
    assert isinstance(found, SubsetChoice)
    return found


def request_of(subset: dict[str, str], **headers: str) -> Request:
    head = RequestHead(service="a", method="b", headers=Headers(headers.items()))
    request = Request(head, BytesBody(), REQUEST.connection, REQUEST.stream, 0.0)
    request.record.subset = subset
    return request


def ports(choice: SubsetChoice, subset: dict[str, str], **headers: str) -> set[int]:
    return {choice.choose(request_of(subset, **headers)).address.port for _ in range(8)}


VERSIONS = SubsetsConfig(selectors=(("version",), ("stage", "version")))


def test_the_selector_counts_whose_keys_are_those_of_the_request() -> None:
    choice = choice_of(VERSIONS, endpoints())
    assert ports(choice, {"version": "v1"}) == {1, 2, 3}
    assert ports(choice, {"version": "v2"}) == {4}
    assert ports(choice, {"version": "v1", "stage": "dev"}) == {3}


@pytest.mark.parametrize(
    "subset",
    [{}, {"stage": "dev"}, {"version": "v9"}, {"version": "v1", "stage": "dev", "zone": "z"}],
)
def test_without_a_subset_the_fallback_counts_which_is_none(subset: dict[str, str]) -> None:
    stats = ClusterStats()
    with pytest.raises(NoHealthyEndpoint, match="no healthy upstream"):
        choice_of(VERSIONS, endpoints(), stats).choose(request_of(subset))
    assert (stats.lb_subsets_fallback, stats.upstream_cx_none_healthy) == (1, 1)
    selectors = VERSIONS.selectors
    any_ = SubsetsConfig(selectors=selectors, fallback="any")
    assert ports(choice_of(any_, endpoints()), subset) == {1, 2, 3, 4}
    default = SubsetsConfig(selectors=selectors, fallback="default", default={"stage": "prod"})
    assert ports(choice_of(default, endpoints()), subset) == {1, 2}


def test_a_default_that_nobody_meets_refuses() -> None:
    nobody = SubsetsConfig(selectors=(("a",),), fallback="default", default={"stage": "gone"})
    with pytest.raises(NoHealthyEndpoint):
        choice_of(nobody, endpoints()).choose(request_of({}))
    with pytest.raises(ValueError, match="`default` is missing"):
        SubsetsConfig(selectors=(("a",),), fallback="default")


def test_a_header_colours_traffic_where_the_route_says_nothing() -> None:
    coloured = SubsetsConfig(selectors=(("version",),), headers={"version": "x-version"})
    stats = ClusterStats()
    choice = choice_of(coloured, endpoints(), stats)
    assert ports(choice, {}, **{"x-version": "v2"}) == {4}
    assert ports(choice, {"version": "v1"}, **{"x-version": "v2"}) == {1, 2, 3}
    assert stats.lb_subsets_selected == 16


async def test_a_subset_has_health_and_panic_of_its_own_and_keeps_its_turn() -> None:
    some = endpoints()
    choice = choice_of(VERSIONS, some)
    assert ports(choice, {"version": "v1"}) == {1, 2, 3}
    some[0].unfit = Unfit.FAILED_CHECK
    choice.marked()
    assert ports(choice, {"version": "v1"}) == {2, 3}
    some[0].unfit = 0
    choice.change(some[:2])
    assert ports(choice, {"version": "v1"}) == {1, 2}
    with pytest.raises(NoHealthyEndpoint):
        choice.choose(request_of({"version": "v2"}))


def test_subsets_that_are_kept_ready_have_a_bound() -> None:
    some = [Endpoint(Address("127.0.0.1", 1 + i), metadata={"id": str(i)}) for i in range(50)]
    choice = choice_of(SubsetsConfig(selectors=(("id",),), max_subsets=8), some)
    for number in [*range(50), *range(50)]:
        assert ports(choice, {"id": str(number)}) == {1 + number}
        assert len(choice._choices) <= 8
    for number in range(1000):
        with pytest.raises(NoHealthyEndpoint):
            choice.choose(request_of({"id": f"asked-{number}"}))
    assert len(choice._choices) <= 8


def test_without_subsets_there_is_only_the_choice() -> None:
    found = chooser(
        RoundRobin(Random(1)), endpoints(), BalancingConfig(), ClusterStats(), Random(1)
    )
    assert type(found) is Choice


METADATA = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))


@given(
    metadata=st.lists(METADATA, min_size=1, max_size=8),
    selectors=st.lists(st.lists(st.sampled_from("abcd"), max_size=3), min_size=1, max_size=4),
    wanted=METADATA,
)
def test_whoever_is_chosen_has_what_was_wanted(
    metadata: list[dict[str, str]], selectors: list[list[str]], wanted: dict[str, str]
) -> None:
    some = [Endpoint(Address("127.0.0.1", 1 + i), metadata=one) for i, one in enumerate(metadata)]
    assert len(parts_of(some, selectors)) <= len(some) * len(selectors)
    choice = choice_of(SubsetsConfig(selectors=tuple(map(tuple, selectors))), some)
    members = [one for one in some if wanted.items() <= one.metadata.items()]
    possible = wanted and members and set(wanted) in [set(one) for one in selectors]
    if possible:
        assert {choice.choose(request_of(wanted)) for _ in range(2 * len(members))} == set(members)
    else:
        with pytest.raises(NoHealthyEndpoint):
            choice.choose(request_of(wanted))


async def test_calls_and_web_requests_go_where_their_colour_says() -> None:
    async with upstream() as one, upstream() as two:
        text = web(one.port, two.port).replace(
            f"[127.0.0.1:{one.port}, 127.0.0.1:{two.port}]",
            f"[{{address: 127.0.0.1:{one.port}, metadata: {{tenant: a}}}},"
            f" {{address: 127.0.0.1:{two.port}, metadata: {{tenant: b}}}}]\n"
            "    balancing: {subsets: {selectors: [[tenant]], headers: {tenant: tenant}}}",
        )
        assert "subsets" in text, text
        async with running(text) as live, trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, calls(b"1"))
            nursery.start_soon(two.serve, calls(b"2"))
            stream = await live.connect()
            answers = [await call(stream, n, "ab"[n % 2]) for n in range(6)]
            assert answers == [b"1", b"2"] * 3
            await call(stream, 9, "c")  # refused in its own protocol
            assert live.cluster().stats.upstream_cx_none_healthy == 1
            nursery.cancel_scope.cancel()
