"""Load balancers in a file: by name, with options, and what is wrong with them."""

from __future__ import annotations

import pytest

from tests.config.test_balancing import FILE
from xproxy.config.balancers import NoOptions, balancer_options
from xproxy.config.balancing import BalancerConfig, balancer_name
from xproxy.config.dump import plain
from xproxy.config.load import load_text
from xproxy.model.errors import ConfigError
from xproxy.model.limits import Duration
from xproxy.registry import default_registry
from xproxy.upstream.balance.least_request import LeastRequestOptions
from xproxy.upstream.balance.maglev import MaglevOptions
from xproxy.upstream.balance.round_robin import RoundRobinOptions
from xproxy.upstream.balance.slow_start import SlowStart

REGISTRY = default_registry()


def load(text: str) -> str | BalancerConfig:
    config = load_text(FILE.format(f"load_balancer: {text}"), "f.yaml", REGISTRY)
    return config.clusters["c"].load_balancer


@pytest.mark.parametrize("text", ["maglev", "{name: maglev}"])
def test_a_name_alone_is_a_name(text: str) -> None:
    assert load(text) == "maglev"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("{name: maglev, table_size: 2053}", MaglevOptions(table_size=2053)),
        ("{name: least_request, choice_count: 3}", LeastRequestOptions(choice_count=3)),
        (
            "{name: round_robin, slow_start: {window: 1m}}",
            RoundRobinOptions(slow_start=SlowStart(window=Duration(60.0))),
        ),
    ],
)
def test_options_are_read_and_shown(text: str, options: object) -> None:
    found = load(text)
    assert isinstance(found, BalancerConfig)
    assert found.options == options
    shown = plain(found)
    assert isinstance(shown, dict)
    assert shown["name"] == balancer_name(found) == found.name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name: maglev, table_size: 2052}", "must be a prime"),
        ("{name: maglev, size: 5}", "size"),
        ("{name: magleff}", 'unknown load balancer "magleff"'),
        ("{table_size: 5}", "name"),
        ("{name: 7}", "load balancer"),
        ("{name: random, seed: 5}", "seed"),
        ("{name: least_request, choice_count: 1}", "choice_count"),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert said in str(caught.value)
    assert "clusters.c.load_balancer" in str(caught.value)


def test_one_without_options_has_none() -> None:
    assert balancer_options(REGISTRY, "random") is NoOptions
    assert balancer_options(REGISTRY, "maglev") is MaglevOptions
