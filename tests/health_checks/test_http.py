"""The check by a web request: what is asked, and what each answer means."""

from __future__ import annotations

import pytest

from tests.health_checks.kit import REGISTRY, answering_in, bench, scripted
from tests.interop.origin import origin
from tests.live import http_response
from xproxy.config.schema import StringMatch
from xproxy.health_checks.http import Http
from xproxy.upstream.health.api import CheckFailed, Passed


async def test_what_is_asked() -> None:
    heard: list[bytes] = []
    async with bench(scripted(http_response(), hear=heard)) as (by, up):
        check = Http(path="/ready?x=1", method="OPTIONS", headers={"x-a": "b"})
        assert await by.check(check, up.port, hostname="one.test") == Passed()
    lines = heard[0].lower().split(b"\r\n")
    assert lines[0] == b"options /ready?x=1 http/1.1"
    assert {b"host: one.test", b"x-a: b", b"user-agent: xproxy-health-check"} <= set(lines)


@pytest.mark.parametrize(("host", "hostname", "sent"), [("a", "b", b"a"), ("", "", b"web")])
async def test_whom_it_is_addressed_to(host: str, hostname: str, sent: bytes) -> None:
    heard: list[bytes] = []
    async with bench(scripted(http_response(), hear=heard)) as (by, up):
        await by.check(Http(path="/", host=host), up.port, hostname=hostname)
    assert b"host: " + sent in heard[0].lower().split(b"\r\n")


@pytest.mark.parametrize(
    ("status", "options", "fails", "at_once"),
    [
        ("200 OK", {}, False, False),
        ("204 No", {}, True, True),  # exactly 200 unless told otherwise
        ("204 No", {"expected_statuses": ("200-299",)}, False, False),
        ("200 OK", {"expected_statuses": ("204",)}, True, True),
        ("503 No", {}, True, True),  # at once, also for 503
        ("503 No", {"retriable_statuses": ("500-599",)}, True, False),
        ("429 No", {"retriable_statuses": ("500-599",)}, True, True),
    ],
)
async def test_what_a_code_means(
    status: str, options: dict[str, tuple[str, ...]], fails: bool, at_once: bool
) -> None:
    async with bench(scripted(http_response(b"", status))) as (by, up):
        check = Http(path="/", **options)  # type: ignore[arg-type]  # by name
        if not fails:
            assert await by.check(check, up.port) == Passed()
            return
        with pytest.raises(CheckFailed, match=status[:3]) as caught:
            await by.check(check, up.port)
        assert caught.value.at_once is at_once


async def test_an_answer_can_say_that_it_is_degraded() -> None:
    answer = http_response(x_envoy_degraded="true")
    async with bench(scripted(answer)) as (by, up):
        assert await by.check(Http(path="/"), up.port) == Passed(degraded=True)


async def test_an_answer_can_say_that_it_fails_at_once() -> None:
    answer = http_response(x_envoy_immediate_health_check_fail="true")
    async with bench(scripted(answer)) as (by, up):
        with pytest.raises(CheckFailed) as caught:
            await by.check(Http(path="/"), up.port)
        assert caught.value.at_once


@pytest.mark.parametrize(("name", "good"), [("reviews-v2", True), ("ratings", False), ("", False)])
async def test_an_address_that_another_service_has_now_is_found_out(name: str, good: bool) -> None:
    """x-envoy-upstream-healthchecked-cluster and service_name."""
    headers = {"x_envoy_upstream_healthchecked_cluster": name} if name else {}
    check = Http(path="/", service_name=StringMatch(prefix="reviews"))
    async with bench(scripted(http_response(b"", "200 OK", **headers))) as (by, up):
        if good:
            assert await by.check(check, up.port) == Passed()
        else:
            with pytest.raises(CheckFailed, match="service_name"):
                await by.check(check, up.port)


@pytest.mark.parametrize(("codec", "own"), [("http2", ""), ("", "http2")])
async def test_over_http2(codec: str, own: str) -> None:
    plugin = REGISTRY.codec(own) if own else None
    async with bench(answering_in("http2")) as (by, up):
        assert await by.check(Http(path="/", codec=codec), up.port, plugin) == Passed()


async def test_a_cluster_of_another_family_is_asked_in_the_oldest_of_the_web() -> None:
    async with bench(scripted(http_response())) as (by, up):
        assert await by.check(Http(path="/"), up.port, REGISTRY.codec("bolt")) == Passed()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
async def test_no_answer_is_a_failure_that_counts(answer: bytes) -> None:
    async with bench(scripted(answer)) as (by, up):
        with pytest.raises(CheckFailed) as caught:
            await by.check(Http(path="/"), up.port)
        assert not caught.value.at_once


@pytest.mark.parametrize("text", ["2xx", "600", "300-200", "200-"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a code"):
        Http(path="/", expected_statuses=(text,))


@pytest.mark.parametrize("path", ["", "ready", "/a b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Http(path=path)


@pytest.mark.slow
@pytest.mark.tool("nginx")
async def test_a_real_server_in_each_version() -> None:
    with origin() as nginx:
        async with bench(scripted()) as (by, _):
            for port, codec in ((nginx.plain, "http1"), (nginx.http2, "http2")):
                check = Http(path="/text", codec=codec)
                probe = by.probe(port)
                for _ in range(3):
                    assert await check(probe) == Passed()
                probe.close()
                with pytest.raises(CheckFailed, match="404"):
                    await by.check(Http(path="/gone", codec=codec), port)
                nothing = Http(path="/nothing", codec=codec, expected_statuses=("204",))
                assert await by.check(nothing, port) == Passed()
