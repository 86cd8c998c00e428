"""Exchanges whose bodies flow go over a real channel, while they flow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.live import eventually, http_response, running, upstream
from tests.migration.takeover import successor, take_over
from tests.proxy.cutting import connect, dressed
from tests.proxy.flows import flowing
from tests.secure import ca, pair
from xproxy.testing import Party, play

TEXT: Final = """
listeners:
  - name: edge
    address: 127.0.0.1:0
{tls}    filters:
      - {{name: access_log, path: {log}, template: '%status% %bytes_sent% %bytes_received%'}}
      - {{name: body_limit, request: 1GiB, response: 1GiB}}
      - {{name: retry, on: [reset]}}
    {way}
routes:
  main:
    - {{cluster: web, allow_upgrade: [websocket], allow_connect: true}}
clusters:
  web:
    endpoints: ["127.0.0.1:{port}"]
{cluster}
"""
HEAD: Final = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
GET: Final = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def text(port: int, log: Path, kind: str) -> str:
    """Return a configuration; ``kind``: what there is beside plain HTTP."""
    down = f"    tls: {{certificates: [{pair()}]}}\n" if "tls-down" in kind else ""
    up = f"    tls: {{ca: {ca()}}}\n" if "tls-up" in kind else ""
    way = "fallback: {cluster: web}" if "raw" in kind else "routes: main"
    return TEXT.format(port=port, log=log, tls=down, cluster=up, way=way)


KINDS: Final = ("plain", "tls-down", "tls-up", "tls-down tls-up")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_download_goes_on_and_so_does_its_connection(
    kind: str, version: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with upstream() as up:
        config = text(up.port, log, kind)
        async with running(config) as old, successor(config, old) as new:
            found: list[trio.abc.HalfCloseableStream] = []
            async with trio.open_nursery() as nursery:

                async def serve() -> None:
                    found.append(await dressed(await up.accept(), kind))

                client = Party("client", await connect(old, kind, version))
                await client.send(GET)
                nursery.start_soon(serve)
            server = Party("upstream", found[0])
            answer = http_response(b"some and the rest")
            await play(server << HEAD, server >> answer[:-13])
            await client.expect(re.compile(HEAD.pattern + rb"some"))
            await flowing(old)
            takeover = await take_over(old, new)
            assert takeover.given is not None
            assert (takeover.given.gone, takeover.given.why) == (True, "")
            assert dict(takeover.given.tally.moved) == {"http1": 1}
            await eventually(old.runtime.ended.is_set, "the old one has ended")
            await play(server >> answer[-13:], client << b" and the rest")
            await play(client >> GET, server << HEAD, server >> http_response(b"ok"))
            await client.expect(re.compile(HEAD.pattern + rb"ok"))
            assert up.accepted == 1
            await eventually(lambda: log.read_text().count("\n") == 2, "both lines are written")
            assert log.read_text() == "ok 17 0\nok 2 0\n"
