"""Whether a connection could go on, tried on what was written of it."""

from __future__ import annotations

import attrs
import pytest

from tests.live import GET, Live, eventually, running, upstream, web
from tests.secure import party, tls
from xproxy.migration.movable import MovableDownstream
from xproxy.migration.packing import Downstream, unpack
from xproxy.migration.rehearsing import rehearse
from xproxy.proxy.adopting import Codecs


async def written(live: Live) -> Downstream:
    active = live.runtime.listeners["edge"]
    await eventually(lambda: bool(live.stats().downstream_rx_bytes_total), "it is here")
    [connection] = active.connections.values()
    item = MovableDownstream(active, connection, Codecs(live.registry))
    state, _ = item.freeze()
    item.thaw()
    found = unpack(state, missing=True)
    assert isinstance(found, Downstream)
    return found


async def test_what_would_go_on_is_passed_over_in_silence() -> None:
    async with upstream() as up, running(web(up.port, listener=tls())) as live:
        client = await party(live)
        await client.send(GET[:9])
        found = await written(live)
        active, codecs = live.runtime.listeners["edge"], Codecs(live.registry)
        rehearse(active, found.described, found.moment, codecs)
        for described, match in (
            (attrs.evolve(found.described, chain="none"), "cannot go on"),
            (attrs.evolve(found.described, codec="none"), "not to be had"),
            (attrs.evolve(found.described, codec="http2", options=()), "not a snapshot of http2"),
        ):
            with pytest.raises(ValueError, match=match):
                rehearse(active, described, found.moment, codecs)
        broken = attrs.evolve(found.moment.parts, stream=b"nothing")
        with pytest.raises(ValueError, match="tls"):
            rehearse(active, found.described, attrs.evolve(found.moment, parts=broken), codecs)
