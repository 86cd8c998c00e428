"""Configuration → snapshot, without opening anything."""

from __future__ import annotations

from random import Random

import attrs
import pytest
import trio

from tests.live import registry
from xproxy.codecs.detect import DetectCounters
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text
from xproxy.config.schema import Config, FilterConfig, RouteConfig
from xproxy.filters.access_log import AccessLog
from xproxy.proxy.build import Tools, assemble, build, codec_limits
from xproxy.proxy.snapshot import Snapshot
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.ticker import Ticker

REGISTRY = registry()
TEXT = """
listeners:
  - {name: edge, address: "127.0.0.1:1", routes: main, fallback: {cluster: raw}, limits: {max_headers: 7}}
  - {name: plain, address: "127.0.0.1:2", routes: main, codecs: [http1]}
  - {name: relay, address: "127.0.0.1:3", fallback: {cluster: raw}}
  - {name: l4, address: "127.0.0.1:4", codecs: [opaque], routes: main}
routes:
  main: [{cluster: web}]
clusters:
  web: {endpoints: ["127.0.0.1:5"]}
  raw: {endpoints: ["127.0.0.1:6"]}
"""


@pytest.fixture
def tools() -> Tools:
    poller = Poller()
    poller.close()
    return Tools(REGISTRY, poller, Timers(), Ticker(), Random(1), DetectCounters())


def config(text: str = TEXT) -> Config:
    return load_text(text, "test.yaml", REGISTRY)


def built(tools: Tools, text: str = TEXT, previous: Snapshot | None = None) -> Snapshot:
    return build(config(text), tools, previous)


def test_everything_of_the_file_is_there(tools: Tools) -> None:
    snapshot = built(tools)
    assert list(snapshot.listeners) == ["edge", "plain", "relay", "l4"]
    assert list(snapshot.clusters) == ["web", "raw"]
    assert snapshot.parts == ()
    assert snapshot.config == config()


def test_a_listener_with_routes_looks_at_first_bytes_and_one_without_does_not(tools: Tools) -> None:
    plans = built(tools).listeners
    assert plans["edge"].detector is not None
    assert plans["edge"].fallback is not None
    assert plans["plain"].detector is not None
    assert plans["plain"].fallback is None
    assert plans["relay"].detector is None
    assert plans["relay"].service is plans["relay"].fallback
    # Only headless codecs: there is nothing to look at, and a server that speaks first gets its word.
    assert plans["l4"].detector is None


def test_limits_reach_the_codecs(tools: Tools) -> None:
    snapshot = built(tools)
    assert snapshot.listeners["edge"].limits.max_headers == 7
    assert snapshot.listeners["plain"].limits == codec_limits(config().listeners[1].limits)


def test_what_is_equal_stays_what_it_was(tools: Tools) -> None:
    old = built(tools)
    new = built(tools, TEXT.replace("max_headers: 7", "max_headers: 8"), old)
    assert new.clusters["web"] is old.clusters["web"]
    assert new.clusters["raw"] is old.clusters["raw"]
    assert new.listeners["edge"].service is not old.listeners["edge"].service


@pytest.mark.parametrize(
    "other", ["endpoints: ['127.0.0.1:5'], idle_timeout: 7s", "endpoints: ['x:7'], codec: http1"]
)
def test_what_differs_is_built_anew(other: str, tools: Tools) -> None:
    old = built(tools)
    new = built(tools, TEXT.replace('web: {endpoints: ["127.0.0.1:5"]}', f"web: {{{other}}}"), old)
    assert new.clusters["web"] is not old.clusters["web"]
    assert new.clusters["raw"] is old.clusters["raw"]
    assert new.changes == ()


@pytest.mark.parametrize(
    "endpoints", ["'127.0.0.1:7'", "{address: '127.0.0.1:5', weight: 9}", "'127.0.0.1:5', 'x:1'"]
)
def test_a_cluster_with_other_endpoints_stays_and_changes_when_it_is_told_to(
    endpoints: str, tools: Tools
) -> None:
    old = built(tools)
    web = old.clusters["web"]
    before = web.config
    text = TEXT.replace('web: {endpoints: ["127.0.0.1:5"]}', f"web: {{endpoints: [{endpoints}]}}")
    new = built(tools, text, old)
    assert new.clusters["web"] is web
    assert web.config == before
    ((changed, wanted),) = new.changes
    assert changed is web
    web.become(wanted)
    assert web.config == new.config.clusters["web"]
    assert built(tools, text, new).changes == ()


def test_no_step_is_more_than_one_cluster_or_route(tools: Tools) -> None:
    many = "".join(f"  c{n}: {{endpoints: ['127.0.0.1:5']}}\n" for n in range(300))
    routes = "".join(f"    - {{hosts: [h{n}.test], cluster: c{n}}}\n" for n in range(200))
    text = TEXT.replace("[{cluster: web}]", "\n" + routes) + many
    old = built(tools, text)
    steps = sum(1 for _ in assemble(config(text), tools, old))
    assert steps > 302 + 200


def test_a_cluster_that_comes_back_is_a_new_one(tools: Tools) -> None:
    first = built(tools)
    changed = TEXT.replace('["127.0.0.1:5"]', '["127.0.0.1:7"], idle_timeout: 7s')
    third = built(tools, TEXT, built(tools, changed, first))
    assert third.clusters["web"] is not first.clusters["web"]


def test_filters_with_a_task_are_parts_and_each_once(tools: Tools) -> None:
    log = AccessLog(path="stdout")
    whole = config()
    twice = FilterConfig(name="access_log", options=log)
    other = FilterConfig(name="access_log", options=AccessLog(path="stdout"))
    edge, plain, *rest = whole.listeners
    listeners = (
        attrs.evolve(edge, filters=(twice, other)),
        attrs.evolve(plain, filters=(twice,)),
        *rest,
    )
    snapshot = build(attrs.evolve(whole, listeners=listeners), tools)
    # Two that are equal are still two: each has its own queue and its own task.
    assert [id(part) for part in snapshot.parts] == [id(log), id(other.options)]


def test_filters_of_routes_are_parts_too(tools: Tools) -> None:
    text = TEXT.replace("{cluster: web}]", "{cluster: web, filters: [access_log]}]")
    assert len(built(tools, text).parts) == 1


def test_an_unknown_balancer_is_refused(tools: Tools) -> None:
    whole = config()
    clusters = {"web": attrs.evolve(whole.clusters["web"], load_balancer="round_robbin")}
    routes_only = tuple(x for x in whole.listeners if x.name == "plain")
    with pytest.raises(InvalidConfig, match=r"did you mean `round_robin`") as caught:
        build(attrs.evolve(whole, clusters=clusters, listeners=routes_only), tools)
    assert [one.path for one in caught.value.findings] == ["clusters.web.load_balancer"]


def test_values_of_a_program_are_checked_and_all_mistakes_told(tools: Tools) -> None:
    whole = config()
    relay = attrs.evolve(whole.listeners[2], fallback="close", name="edge")
    wrong = attrs.evolve(
        whole,
        listeners=(*whole.listeners, relay),
        routes={"main": (RouteConfig(cluster="wbe"), RouteConfig(hosts=("a*b",), cluster="raw"))},
    )
    with pytest.raises(InvalidConfig) as caught:
        build(wrong, tools)
    assert str(caught.value).split("\n") == [
        'listeners[4].name: name "edge" is taken by listeners[0] already',
        'listeners[4].address: address "127.0.0.1:3" is taken by listeners[2] already',
        "listeners[4]: a listener needs routes, or a fallback to a cluster",
        'routes.main[0].cluster: unknown cluster "wbe" (did you mean `web`?); allowed: web, raw',
        'routes.main[1].hosts[0]: "a*b" is not a host pattern; expected host, host:port, *.suffix, '
        "prefix.* or *",
    ]


def test_what_the_loader_has_checked_is_not_checked_again(tools: Tools) -> None:
    loaded = config()
    steps = len(list(assemble(loaded, tools)))
    made = attrs.evolve(loaded)
    assert len(list(assemble(made, tools))) > steps
    assert len(list(assemble(made, tools))) == steps, "nor is it a second time"


async def test_nothing_is_open_and_nothing_runs(tools: Tools) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    snapshot = built(tools)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert all(c.stats.upstream_cx_active == 0 for c in snapshot.clusters.values())


def test_options_of_codecs_reach_listener_and_cluster(tools: Tools) -> None:
    text = TEXT.replace("codecs: [http1]", "codecs: [{name: http2, max_settings: 9}]").replace(
        '"127.0.0.1:5"]', '"127.0.0.1:5"], codec: {name: http2, max_settings: 8}'
    )
    snapshot = built(tools, text)
    plan = snapshot.listeners["plain"]
    assert plan.detector is not None
    assert plan.detector.candidates == (plan.only,)
    assert getattr(plan.only, "max_settings", 0) == 9
    choice = snapshot.clusters["web"]._codec
    assert choice("anything") is choice("http1")
    assert getattr(choice("http1"), "max_settings", 0) == 8
    assert snapshot.clusters["raw"]._codec("http2") is REGISTRY.codec("http2")
    again = built(tools, text, snapshot)
    assert again.clusters["web"] is snapshot.clusters["web"]
    other = built(tools, text.replace("max_settings: 8", "max_settings: 7"), snapshot)
    assert other.clusters["web"] is not snapshot.clusters["web"]


def test_routes_that_are_the_same_values_keep_what_was_made_of_them(tools: Tools) -> None:
    before = config()
    old = build(before, tools)
    same = build(attrs.evolve(before, clusters=dict(before.clusters)), tools, old)
    assert same.tables["main"] is old.tables["main"]
    assert same.routers["main"] is old.routers["main"]
    # Another cluster, of whatever name: weights may lead to it.
    other = attrs.evolve(before.clusters["raw"], load_balancer="random")
    changed = attrs.evolve(before, clusters={**before.clusters, "raw": other})
    after = build(changed, tools, same)
    assert after.tables["main"] is old.tables["main"]
    assert after.routers["main"] is not old.routers["main"]
    # Equal is not the same: filters among them may have a state.
    anew = build(config(), tools, after)
    assert anew.tables["main"] is not old.tables["main"]
