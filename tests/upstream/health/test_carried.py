"""Health goes along in an upgrade: who is ejected, for how long, how often; and what checks have found."""

from __future__ import annotations

import pytest
import trio

from tests.live import Live, eventually, registry, running, upstream, web
from tests.upstream.test_carried import part_of
from xproxy.config.load import load_text
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.carried import EndpointHealth
from xproxy.upstream.health.records import CheckRecord

DETECTION = "{max_ejection_percent: 100, base_ejection_time: 20s, max_ejection_time: 60s}"
CHECK = "[{timeout: 9s, interval: 9s, unhealthy_threshold: 2, healthy_threshold: 2, check: tcp}]"
KIND = "endpoint health"


def endpoint_of(live: Live) -> Endpoint:
    return live.cluster().endpoints[0]


async def test_an_ejection_goes_on_there_with_its_time_and_multiplier() -> None:
    async with upstream() as up:
        text = web(up.port, 1, outlier_detection=DETECTION)
        async with running(text) as old, running(text) as new:
            assert part_of(old, KIND).carry() == b""
            watch = old.cluster()._watch
            assert watch is not None
            assert watch.outliers is not None
            for _ in range(2):
                watch.outliers.eject(endpoint_of(old), "test")
            watch.outliers.answered(old.cluster().endpoints[1], 503)
            part_of(new, KIND).resume(part_of(old, KIND).carry())
            first, second = new.cluster().endpoints
            assert first.unfit == Unfit.EJECTED
            assert first.outliers is not None
            assert first.outliers.multiplier == 2
            assert 30 < first.outliers.ejected_until - trio.current_time() <= 40
            assert not second.unfit
            assert second.outliers is not None
            assert second.outliers.consecutive_5xx == 1
            assert new.cluster().stats.ejections_active == 1
            assert new.cluster().stats.membership_healthy == 1


async def test_what_checks_have_found_goes_along() -> None:
    async with upstream() as up:
        text = web(up.port, 1, health_checks=CHECK)
        async with running(text) as old:
            endpoints = old.cluster().endpoints
            await eventually(lambda: not any(e.checks[0].pending for e in endpoints), "checked")
            assert [bool(one.unfit) for one in endpoints] == [False, True]
            endpoints[1].checks[0].successes = 1
            data = part_of(old, KIND).carry()
        # In a process that has checked nothing yet.
        config = load_text(text, "x", registry()).clusters["web"]
        fresh = [Endpoint(one.address, checks=(CheckRecord(),)) for one in config.endpoints]
        told: list[int] = []

        class Told:
            def resumed(self) -> None:
                told.append(1)

        EndpointHealth("web", config, fresh, Told()).resume(data)
        assert [one.checks[0].pending for one in fresh] == [False, False]
        assert [one.checks[0].failed for one in fresh] == [False, True]
        assert fresh[1].checks[0].successes == 1
        assert told == [1]


async def test_marks_follow_what_was_resumed() -> None:
    async with upstream() as up:
        text = web(up.port, health_checks=CHECK)
        async with running(text) as old, running(text) as new:
            both = (endpoint_of(old), endpoint_of(new))
            await eventually(lambda: not any(one.unfit for one in both), "checked")
            endpoint_of(old).checks[0].failed = True
            part_of(new, KIND).resume(part_of(old, KIND).carry())
            assert endpoint_of(new).unfit == Unfit.FAILED_CHECK
            assert new.cluster().stats.membership_healthy == 0


async def test_nothing_is_longer_than_configured_nor_resumed_where_it_is_not_wanted() -> None:
    async with upstream() as up:
        async with running(web(up.port, outlier_detection=DETECTION)) as old:
            watch = old.cluster()._watch
            assert watch is not None
            assert watch.outliers is not None
            watch.outliers.eject(endpoint_of(old), "test")
            record = endpoint_of(old).outliers
            assert record is not None
            record.ejected_until += 1e6
            data = part_of(old, KIND).carry()
        async with running(web(up.port, outlier_detection=DETECTION)) as new:
            part_of(new, KIND).resume(data)
            record = endpoint_of(new).outliers
            assert record is not None
            assert record.ejected_until - trio.current_time() <= 60
        async with running(web(up.port, health_checks=CHECK)) as other:
            part_of(other, KIND).resume(data)
            assert not endpoint_of(other).unfit & Unfit.EJECTED
            assert endpoint_of(other).outliers is None
        async with running(web(1, outlier_detection=DETECTION)) as stranger:
            part_of(stranger, KIND).resume(data)
            assert not endpoint_of(stranger).unfit


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x81\xa3cut\xcb?\xf0\0\0\0\0\0\0"])
async def test_what_cannot_be_read_changes_nothing(data: bytes) -> None:
    async with running(web(1, outlier_detection=DETECTION)) as live:
        with pytest.raises(ValueError):
            part_of(live, KIND).resume(data)
        assert not endpoint_of(live).unfit
