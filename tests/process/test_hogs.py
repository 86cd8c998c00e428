"""Each kind of hog, for a moment: a good client beside some of them is served, and soon."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from tests.process.hogs import HOGS, configuration, under_attack
from tests.process.product import LOAD_SECONDS, Product, product
from tests.process.slowloris import good_client
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow

CONNECTIONS = 10
MOST = 0.15
"""Seconds of a good client's median beside them, above twenty times what it is alone: a machine that does other work
takes a multiple of what hogs.py finds on a quiet one. Without turns it is a second and more beside a single one."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with (
        upstream("web") as good,
        upstream("sink") as sink,
        product(configuration(good, sink), tmp_path_factory.mktemp("hogs")) as found,
    ):
        good_client(found.port, 0.3)
        yield found


@pytest.mark.parametrize("name", HOGS)
def test_a_good_client_is_served_beside_hogs(name: str, proxy: Product) -> None:
    alone = statistics.median(good_client(proxy.port, 0.2))
    for _ in range(3):
        found = under_attack(proxy, name, CONNECTIONS, LOAD_SECONDS / 2)
        if found.median < MOST + 20 * alone:
            break
    else:
        pytest.fail(f"{name}: {found.median} s, {alone} s without them")
    assert found.outcome.sent
    assert "Traceback" not in proxy.said()
