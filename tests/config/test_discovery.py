"""Discoveries are written as filters are; who has none names its endpoints."""

from __future__ import annotations

import pytest

from tests.live import registry, web
from xproxy.config.discovery import STATIC, DiscoveryConfig
from xproxy.config.dump import config_dump
from xproxy.config.findings import InvalidConfig
from xproxy.config.json_schema import json_schema
from xproxy.config.load import load_text
from xproxy.config.schema import ClusterConfig
from xproxy.registry import DISCOVERY, Entry
from xproxy.upstream.discovery.dns import Dns


def cluster(type_: str, endpoints: str = "['a.test:80']") -> ClusterConfig:
    text = web(type=type_).replace("endpoints: []", f"endpoints: {endpoints}")
    return load_text(text, "x", registry()).clusters["web"]


@pytest.mark.parametrize("written", ["static", "{name: static}"])
def test_static_is_the_default(written: str) -> None:
    assert cluster(written).type == ClusterConfig().type == STATIC


def test_a_name_is_a_discovery_without_options() -> None:
    assert cluster("dns") == cluster("{name: dns}")
    assert cluster("dns").type == DiscoveryConfig(name="dns", options=Dns())
    assert cluster("{name: dns, mode: logical}").type == DiscoveryConfig(
        name="dns", options=Dns(mode="logical")
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("dsn", 'unknown discovery "dsn" (did you mean `dns`?)'),
        ("{name: dsn}", 'unknown discovery "dsn" (did you mean `dns`?)'),
        ("{mode: strict}", "a discovery's `name` is missing"),
        ("{name: 3}", "expected a discovery's name"),
        ("[dns]", "expected"),
        ("{name: dns, mod: strict}", "unknown key (did you mean `mode`?)"),
        ("{name: dns, timeout: 0}", "clusters.web.type.timeout: must be > 0"),
        ("{name: static, mode: strict}", "static endpoints have no options"),
        ("{name: lost}", "cannot be imported"),
    ],
)
def test_a_mistake_is_told_where_it_stands(written: str, said: str) -> None:
    text = web(1, type=written)
    lost = Entry.parse(DISCOVERY, "lost", "no_such_module:X", "acme", "1")
    with pytest.raises(InvalidConfig) as caught:
        load_text(text, "x", registry(lost))
    assert said in str(caught.value)


def test_static_endpoints_are_needed() -> None:
    with pytest.raises(InvalidConfig, match="it needs `endpoints`, at least one, or a `type`"):
        cluster("static", "[]")


def test_it_is_shown_with_its_options() -> None:
    config = load_text(web(1, type="dns"), "x", registry())
    shown = config_dump(config)["clusters"]
    assert isinstance(shown, dict)
    web_ = shown["web"]
    assert isinstance(web_, dict)
    found = web_["type"]
    assert isinstance(found, dict)
    assert (found["name"], found["mode"], found["refresh"]) == ("dns", "strict", "5s")


def test_editors_know_it() -> None:
    definitions = json_schema(registry())["$defs"]
    assert isinstance(definitions, dict)
    found = str(definitions["discovery"])
    assert "'original_destination'" in found
    assert "'lookup_family'" in found


CHECKS = "[{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, check: tcp}]"


@pytest.mark.parametrize(
    ("key", "value"), [("outlier_detection", "true"), ("health_checks", CHECKS)]
)
def test_health_matters_only_where_there_is_a_choice(key: str, value: str) -> None:
    field = f"    {key}: {value}\n"
    text = web(type="original_destination").replace("    endpoints: []\n", field)
    with pytest.raises(InvalidConfig, match=f"clusters.web.{key}: requests say where they go"):
        load_text(text, "x", registry())
    assert load_text(web(1) + field, "x", registry())
