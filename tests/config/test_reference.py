"""The reference pages are complete."""

from __future__ import annotations

import attrs

from xproxy.config.reference import config_reference, limits_reference
from xproxy.config.schema import LimitsConfig, TimeoutsConfig
from xproxy.model.limits import Limits
from xproxy.observe.variables import VARIABLES
from xproxy.registry import FILTERS, Registry


def test_config_page_has_every_class_and_filter(registry: Registry) -> None:
    sane = Registry(e for e in registry.entries(FILTERS) if e.name not in ("broken", "function"))
    page = config_reference(sane)
    for title in ("## The file", "## Listener", "## StringMatch", "### `again`"):
        assert f"\n{title}\n" in page
    assert "| `attempts` | a whole number ≥ 1 | `1` | How often. |" in page
    assert "| `address` | an address | required |" in page
    assert "list of text" in page
    assert "[filter](#filters)" in page
    assert "### `again`" not in config_reference(sane, "somebody else's")


def test_config_page_says_what_each_variable_is() -> None:
    page = config_reference(Registry(()))
    for name, variable in VARIABLES.items():
        assert variable.shows
        assert f"\n| `{name}` |" in page
    assert "| `sni` | `REQUESTED_SERVER_NAME` | the request | the server name that" in page
    assert "| `bytes_sent` |  | the end | of the response's body |" in page


def test_limits_page_has_every_limit() -> None:
    page = limits_reference()
    for cls in (LimitsConfig, TimeoutsConfig, Limits):
        for field in attrs.fields(cls):
            assert f"| `{field.name}` |" in page
