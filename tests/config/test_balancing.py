"""What a file says of balancing, and what it gets without saying anything."""

from __future__ import annotations

import pytest

from xproxy.config.balancing import DEFAULT_BALANCING, BalancingConfig
from xproxy.config.load import load_text
from xproxy.model.errors import ConfigError
from xproxy.registry import default_registry

FILE = """\
listeners: [{{name: edge, address: "127.0.0.1:0", routes: main}}]
routes: {{main: [{{cluster: c}}]}}
clusters: {{c: {{endpoints: ["127.0.0.1:1"], {}}}}}
"""


def load(text: str) -> BalancingConfig:
    return load_text(FILE.format(text), "f.yaml", default_registry()).clusters["c"].balancing


def test_defaults_are_140_and_50() -> None:
    assert load("") == DEFAULT_BALANCING == BalancingConfig()
    assert (DEFAULT_BALANCING.overprovisioning_factor, DEFAULT_BALANCING.panic_threshold) == (
        140,
        50,
    )
    assert not DEFAULT_BALANCING.fail_traffic_on_panic


def test_what_is_said_is_read() -> None:
    assert load("balancing: {panic_threshold: 0, overprovisioning_factor: 200}") == BalancingConfig(
        panic_threshold=0, overprovisioning_factor=200
    )


@pytest.mark.parametrize(
    "text", ["panic_threshold: 101", "panic_threshold: -1", "overprovisioning_factor: 99"]
)
def test_what_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="balancing"):
        load(f"balancing: {{{text}}}")
