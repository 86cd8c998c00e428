"""The demo's journal: what the access log says of each connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from xproxy.cli.demo.journal import PATIENCE, Journal, Told
from xproxy.filters.access_log import AccessLog


def _line(port: int, protocol: str = "http1", route: str | None = "web") -> str:
    fields = {"peer": f"127.0.0.1:{port}", "protocol": protocol, "route": route}
    return json.dumps(fields) + "\n"


def test_the_last_request_of_a_connection_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log")
    assert journal.read() == {}
    journal.path.write_text(_line(1) + _line(2, "opaque", None) + _line(1, route="shop") + "{")
    assert journal.read() == {1: Told("http1", "shop"), 2: Told("opaque", "")}


def test_the_filter_writes_what_is_read(tmp_path: Path) -> None:
    options = Journal(tmp_path / "log").filter().options
    assert isinstance(options, AccessLog)
    assert options.path == str(tmp_path / "log")
    assert set(options.fields or {}) == {"peer", "protocol", "route"}


@pytest.mark.usefixtures("autojump_clock")
async def test_it_waits_for_the_lines_of_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log")
    journal.path.write_text(_line(1))

    async def later() -> None:
        await trio.sleep(PATIENCE / 2)
        journal.path.write_text(_line(1) + _line(2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert set(await journal.wait_for([1, 2])) == {1, 2}
    began = trio.current_time()
    assert set(await journal.wait_for([1, 2, 3])) == {1, 2}
    assert trio.current_time() - began >= PATIENCE / 2
