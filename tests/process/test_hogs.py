"""Each kind of hog, for a moment: a good client beside some of them is served, and soon."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from tests.process.hogs import HOGS, configuration, under_attack
from tests.process.product import LOAD_SECONDS, Product, product
from tests.process.slowloris import work_alone
from tests.process.upstreams import upstream
from xproxy.transport.turns import ALONE

pytestmark = pytest.mark.slow

CONNECTIONS = 10
MOST = 60
"""Times the proxy's work for a good client alone, and two turns of others, within which one beside them is answered:
the mean, as there are a hundred answers with turns and a handful without. With turns 22 was the most, and without any
it was 200 to 2,000 for half of them. hogs.py measures by the clock on the wall."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with (
        upstream("web") as good,
        upstream("sink") as sink,
        product(configuration(good, sink), tmp_path_factory.mktemp("hogs")) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def alone(proxy: Product) -> float:
    return work_alone(proxy, proxy.port)


@pytest.mark.parametrize("name", HOGS)
def test_a_good_client_is_served_beside_hogs(name: str, proxy: Product, alone: float) -> None:
    bound = 2 * ALONE + MOST * alone
    for _ in range(2):
        found = under_attack(proxy, name, CONNECTIONS, LOAD_SECONDS / 2, proxy.work)
        mean = statistics.fmean(found.taken)
        if mean < bound:
            break
    assert mean < bound, f"{alone} s without them"
    proxy.settled()
    assert found.outcome.sent
    assert "Traceback" not in proxy.said()
