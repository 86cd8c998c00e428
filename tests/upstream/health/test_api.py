"""The contract of health checks: a plugin is a few lines, and brings a check to a whole proxy."""

from __future__ import annotations

import attrs
import pytest

from tests.live import eventually, registry, running, upstream, web
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text
from xproxy.registry import HEALTH_CHECKS, Entry
from xproxy.upstream.endpoint import Unfit
from xproxy.upstream.health.api import PASSED, CheckFailed, Passed, Probe


@attrs.frozen(kw_only=True)
class Odd:
    """Endpoints whose port is odd are fit, or those whose port is even."""

    even: bool = False

    async def __call__(self, probe: Probe) -> Passed | None:
        stream = await probe.connect()
        assert stream.peer == probe.address
        if probe.address.port % 2 == self.even:
            raise CheckFailed("not this one", at_once=True)
        return None


class NoCheck:
    """Neither attrs class nor callable."""


PLUGINS = registry(
    Entry.parse(HEALTH_CHECKS, "odd", f"{__name__}:Odd", "tests", "0"),
    Entry.parse(HEALTH_CHECKS, "none", f"{__name__}:NoCheck", "tests", "0"),
)
CHECK = "[{{timeout: 9s, interval: 9s, unhealthy_threshold: 1, healthy_threshold: 1, check: {}}}]"


def test_to_pass_is_not_to_be_degraded() -> None:
    assert Passed(degraded=False) == PASSED
    assert not CheckFailed("x").at_once


@pytest.mark.parametrize("even", [True, False])
async def test_a_plugin_checks_endpoints(even: bool) -> None:
    async with upstream() as up:
        text = web(up.port, health_checks=CHECK.format(f"{{name: odd, even: {str(even).lower()}}}"))
        async with running(text, plugins=PLUGINS) as live:
            endpoint = live.cluster().endpoints[0]
            await eventually(lambda: not endpoint.unfit & Unfit.UNCHECKED, "it is checked")
            assert bool(endpoint.unfit) is (up.port % 2 == even)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("ood", "unknown health check .*did you mean `odd`"),
        ("{even: true}", "a health check's `name` is missing"),
        ("{name: odd, evn: true}", "unknown key"),
        ("{name: [odd]}", "expected a health check's name"),
        ("[odd]", "expected a health check's name or a mapping"),
        ("none", "it is no attrs class"),
        ("http", "key `path` is missing"),
    ],
)
def test_what_is_no_check_is_refused(check: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        load_text(web(1, health_checks=CHECK.format(check)), "x", PLUGINS)
