"""The local health endpoint: who is answered, with what, and who answers."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from tests.live import eventually, refusing_port, running, upstream, web
from xproxy.config.schema import StringMatch
from xproxy.filters.health_check import DEGRADED, IDENTITY, IMMEDIATE_FAIL, HealthCheck
from xproxy.model.limits import Duration
from xproxy.model.status import Status

Kit = Any  # Any: conftest.py cannot be imported
PATH = StringMatch(exact="/healthz")


@attrs.frozen
class Connection:
    draining: bool


@attrs.frozen
class Cluster:
    total: int
    usable: int

    def members(self) -> tuple[int, int]:
        return self.total, self.usable


def asked(
    kit: Kit, path: str = "/healthz", *headers: tuple[str, str], draining: bool = False
) -> Any:
    request = kit.web(path, *headers)
    request.connection.downstream = Connection(draining)
    return request


async def test_no_pass_answers_here(kit: Kit) -> None:
    """200, or 503 while draining."""
    check, up = HealthCheck(path=PATH, service_name="edge"), kit.upstream()
    request = asked(kit, "/healthz?x=1")
    answer: Any = await check(request, up)
    assert answer.head.status is Status.OK
    assert answer.head.native_status is None
    assert answer.head.headers.get(IDENTITY) == "edge"
    assert (request.record.local, request.record.detail) == (True, "health_check")
    answer = await check(asked(kit, draining=True), up)
    assert answer.head.status is Status.UNAVAILABLE
    assert answer.head.headers.get(IMMEDIATE_FAIL) == "true"
    assert up.seen == []


async def test_other_requests_pass_and_learn_of_the_draining(kit: Kit) -> None:
    check, up = HealthCheck(path=PATH), kit.upstream()
    answer: Any = await check(asked(kit, "/other"), up)
    assert answer.body.data == b"hello"
    assert IMMEDIATE_FAIL not in answer.head.headers
    answer = await check(asked(kit, "/other", draining=True), up)
    assert answer.body.data == b"hello"
    assert answer.head.headers.get(IMMEDIATE_FAIL) == "true"


@pytest.mark.parametrize(
    ("total", "usable", "percent", "status"),
    [
        (4, 2, 50, Status.OK),
        (4, 1, 50, Status.UNAVAILABLE),
        (4, 1, 25, Status.OK),
        (3, 2, 66.7, Status.UNAVAILABLE),
        (0, 0, 1, Status.UNAVAILABLE),
        (0, 0, 0, Status.OK),
    ],
)
async def test_so_many_percent_of_a_cluster_must_be_healthy(
    kit: Kit, total: int, usable: int, percent: float, status: Status
) -> None:
    """Minimum healthy percentages of named clusters."""
    check = HealthCheck(path=PATH, min_healthy_percentages={"a": percent, "b": 100})
    check.see_clusters({"a": Cluster(total, usable), "b": Cluster(1, 1), "c": Cluster(9, 0)})
    answer: Any = await check(asked(kit), kit.upstream())
    assert answer.head.status is status


async def test_a_cluster_that_is_not_there_is_not_healthy(kit: Kit) -> None:
    check = HealthCheck(path=PATH, min_healthy_percentages={"a": 1})
    check.see_clusters({"a": Cluster(1, 1)})
    assert (await check(asked(kit), kit.upstream())).head.status is Status.OK
    check.see_clusters({})
    assert (await check(asked(kit), kit.upstream())).head.status is Status.UNAVAILABLE


async def test_pass_through_lets_the_upstream_answer(kit: Kit) -> None:
    check, up = HealthCheck(path=PATH, pass_through=True, service_name="edge"), kit.upstream()
    for _ in range(2):
        answer: Any = await check(asked(kit), up)
        assert answer.body.data == b"hello"
        assert answer.head.headers.get(IDENTITY) == "edge"
    assert len(up.seen) == 2
    answer = await check(asked(kit, draining=True), up)
    assert answer.head.status is Status.UNAVAILABLE
    assert len(up.seen) == 2


@pytest.mark.parametrize("status", [Status.OK, Status.UNAVAILABLE])
async def test_its_answer_is_given_for_a_while(
    kit: Kit, mock_clock: MockClock, status: Status
) -> None:
    """Pass-through with cache."""
    check = HealthCheck(path=PATH, pass_through=True, cache_time=Duration(10.0))
    up = kit.upstream(*[kit.response(299, (DEGRADED, "true"), status=status) for _ in range(2)])
    await check(asked(kit), up)
    mock_clock.jump(9.9)
    answer: Any = await check(asked(kit), up)
    assert answer.head.status is status
    assert answer.head.native_status is None
    assert answer.head.headers.get(DEGRADED) == "true"
    assert len(up.seen) == 1
    mock_clock.jump(0.2)
    await check(asked(kit), up)
    assert len(up.seen) == 2


@pytest.mark.parametrize(
    ("options", "matches"),
    [
        ({"headers": {"x-check": StringMatch(exact="1")}}, True),
        ({"headers": {"x-check": StringMatch(exact="2")}}, False),
        ({"method": StringMatch(exact="GET")}, True),
        ({"service": StringMatch(prefix="reviews")}, True),
        ({"path": StringMatch(prefix="/h"), "method": StringMatch(exact="POST")}, False),
    ],
)
async def test_all_that_is_given_must_match(
    kit: Kit, options: dict[str, object], matches: bool
) -> None:
    check, up = HealthCheck(**options), kit.upstream()  # type: ignore[arg-type]  # by name
    await check(asked(kit, "/healthz", ("x-check", "1")), up)
    assert len(up.seen) == (not matches)


async def test_a_call_of_any_protocol(kit: Kit) -> None:
    check = HealthCheck(
        service=StringMatch(exact="com.example.Hello"), method=StringMatch(exact="say")
    )
    answer: Any = await check(kit.rpc(), kit.upstream())
    assert answer.head.status is Status.OK
    assert await HealthCheck(path=PATH)(kit.rpc(), kit.upstream()) is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs path"),
        ({"path": PATH, "cache_time": Duration(1.0)}, "pass_through"),
        ({"path": PATH, "pass_through": True, "min_healthy_percentages": {"a": 1}}, "answers made"),
        ({"path": PATH, "min_healthy_percentages": {"a": 101}}, "0 … 100"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HealthCheck(**options)  # type: ignore[arg-type]  # by name


async def test_a_whole_proxy_says_how_its_cluster_is() -> None:
    """Two endpoints are checked; one does not listen."""
    checks = (
        "[{timeout: 9s, interval: 9s, unhealthy_threshold: 1, healthy_threshold: 1, check: tcp}]"
    )
    for percent, code in ((50, b"200"), (51, b"503")):
        async with upstream() as up:
            text = web(up.port, refusing_port(), health_checks=checks).replace(
                "    - cluster: web\n",
                "    - filters: [{name: health_check, path: /healthz,"
                f" min_healthy_percentages: {{web: {percent}}}}}]\n      cluster: web\n",
            )
            async with running(text) as live:
                cluster = live.cluster()
                await eventually(
                    lambda cluster=cluster: not cluster.stats.membership_excluded,  # type: ignore[misc]  # bound early
                    "both are checked",
                )
                client = await live.client()
                await client.send(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
                await client.expect(re.compile(rb"HTTP/1.1 %b " % code))
                assert cluster.stats.upstream_rq_total == 0
