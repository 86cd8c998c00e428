"""Each attack on HTTP/2, for a moment: its attackers are cut off and counted, and hold nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import trio

from tests.process.attacks import ATTACKS, attack, configuration, counters, under_attack
from tests.process.product import LOAD_SECONDS, PATIENCE, Product, eventually, product
from tests.process.slowloris import good_client, work_alone
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow

SHORT = "{stream_idle: 300ms, write: 300ms, body: 300ms, idle: 30s, linger: 50ms}"
"""Of the attackers' listener: a good client, or its upstream, may get no processor for a while."""
WORK = 20
"""Times the work for a good client alone, within which one beside them is answered: the median."""
GROWTH = 32 << 20
"""Bytes that each of these may add to what the proxy holds: most of it for peers that read nothing."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with upstream("web") as web:
        text = configuration(web, web, SHORT)
        with product(text, tmp_path_factory.mktemp("attacks")) as found:
            good_client(found.ports["good"], 0.3)
            yield found


@pytest.mark.parametrize("name", ATTACKS)
async def test_attackers_are_cut_off_and_counted(name: str, proxy: Product) -> None:
    before, resident = counters(proxy), proxy.resident
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attack, proxy.port, name, 3, math.inf)

        def seen() -> int:
            after = counters(proxy)
            return sum(after.get(k, 0) - before.get(k, 0) for k in ATTACKS[name].counted)

        with trio.fail_after(PATIENCE):
            while seen() < 3:  # noqa: ASYNC110  # counters wake nobody
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(proxy.settled)
    assert proxy.resident < resident + GROWTH
    assert "Traceback" not in proxy.said()


def test_a_good_client_is_served_beside_them(proxy: Product) -> None:
    alone = work_alone(proxy, proxy.ports["good"])
    for name in ("rapid reset", "made you reset", "ping", "dribble"):
        # Again where the attackers had no time; attacks.py measures by the clock on the wall.
        for _ in range(10):
            found = under_attack(proxy, name, 20, LOAD_SECONDS / 2, proxy.work)
            # What the proxy counted: the attackers may not have got round to seeing their end.
            if found.counted:
                break
        assert found.counted, name
        assert found.median < WORK * alone, f"{name}: {found}"
    eventually(lambda: not proxy.leaks(), "nothing is held")
