"""Reading health checks: by name, with the options of their own class."""

from __future__ import annotations

import pytest

from tests.live import registry, web
from xproxy.config.findings import InvalidConfig
from xproxy.config.json_schema import json_schema
from xproxy.config.load import load_text
from xproxy.config.reference import config_reference
from xproxy.health_checks.http import Http
from xproxy.health_checks.redis import Redis

REGISTRY = registry()
CHECK = "[{{timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 2, check: {}}}]"


def options(check: str) -> object:
    text = web(1, health_checks=CHECK.format(check))
    (found,) = load_text(text, "x", REGISTRY).clusters["web"].health_checks
    return found.check.options


def test_a_name_alone_or_with_options() -> None:
    assert options("redis") == options("{name: redis}") == Redis()
    assert options("{name: http, path: /x, service_name: {prefix: a}}") == options(
        "{path: /x, name: http, service_name: {prefix: a}}"
    )
    assert isinstance(options("{name: http, path: /x}"), Http)


@pytest.mark.parametrize(
    "check", ["http", "{name: http, path: x}", "{name: tcp, send: 'hex:0'}", "5", "{name: 5}"]
)
def test_what_cannot_be_read_is_told_with_its_place(check: str) -> None:
    with pytest.raises(InvalidConfig, match=r"clusters.web.health_checks\[0\].check"):
        options(check)


def test_the_schema_and_the_reference_know_every_check() -> None:
    forms = json_schema(REGISTRY)["$defs"]
    assert isinstance(forms, dict)
    assert "health_check" in forms
    page = config_reference(REGISTRY, "xproxy")
    for name in ("call", "grpc", "heartbeat", "http", "redis", "tcp"):
        assert f"### `{name}`" in page


@pytest.mark.parametrize(
    ("check", "codec", "said"),
    [
        ("{name: heartbeat, codec: dubo}", "auto", "unknown codec .*did you mean `dubbo`"),
        ("heartbeat", "auto", "say in `codec` what is spoken"),
        ("{name: call, method: ping}", "same", "say in `codec` what is spoken"),
        ("{name: http, path: /, codec: htp2}", "auto", "unknown codec .*did you mean `http2`"),
    ],
)
def test_a_check_that_cannot_be_made_is_refused(check: str, codec: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        load_text(web(1, codec=codec, health_checks=CHECK.format(check)), "x", REGISTRY)


def test_a_cluster_that_says_its_codec_is_enough() -> None:
    assert load_text(web(1, codec="bolt", health_checks=CHECK.format("heartbeat")), "x", REGISTRY)


def test_a_filter_that_looks_at_an_unknown_cluster_is_refused() -> None:
    filters = (
        "    filters: [{name: health_check, path: /, min_healthy_percentages: {web: 1, wob: 2}}]\n"
    )
    with pytest.raises(InvalidConfig, match=r"min_healthy_percentages.wob: unknown cluster"):
        load_text(web(1, listener=filters), "x", REGISTRY)
