"""Where nothing goes along, nothing does."""

from __future__ import annotations

from tests.live import running, upstream, web
from xproxy.migration.carried import NoParts


async def test_no_parts() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        parts = NoParts()
        assert (list(parts.collect(live.runtime)), parts.counted(live.runtime)) == ([], b"")
        assert list(parts.resume(live.runtime, [])) == []
        parts.add(live.runtime, b"")
