"""A proxy in a network of its own, where the kernel redirects connections to it: ``python -m … redirect|tproxy``.

Run it in a new network namespace. Clients call from one address, and only what comes from there is redirected: what
the proxy itself opens is not. Prints a line of JSON for each version of IP: what was answered, and by whom.
"""

from __future__ import annotations

import json
import subprocess
import sys

import trio

from tests.live import http_response, read_head, running, web
from tests.upstream.discovery.kit import get
from xproxy.testing import Party

PORT = 15001
NETWORK = {
    4: ("10.9.0.1", "10.9.0.2", "10.9.0.9", "iptables", "0.0.0.0"),
    6: ("fd00::1", "fd00::2", "fd00::9", "ip6tables", "[::]"),
}


def prepare(mode: str) -> None:
    """Make addresses and rules."""

    def run(command: str) -> None:
        subprocess.run(command.split(), check=True, timeout=60)

    run("ip link set lo up")
    for version, (*addresses, client, tables, _) in NETWORK.items():
        for address in (*addresses, client):
            nodad = " nodad" if version == 6 else ""
            run(f"ip addr add {address}/{32 if version == 4 else 128} dev lo{nodad}")
        if mode == "redirect":
            run(f"{tables} -t nat -A OUTPUT -p tcp -s {client} -j REDIRECT --to-ports {PORT}")
        else:
            everything = "0.0.0.0/0" if version == 4 else "::/0"
            run(f"ip -{version} rule add fwmark 1 lookup 100")
            run(f"ip -{version} route add local {everything} dev lo table 100")
            run(f"{tables} -t mangle -A OUTPUT -p tcp -s {client} -j MARK --set-mark 1")
            run(
                f"{tables} -t mangle -A PREROUTING -p tcp -s {client} -j TPROXY"
                f" --on-port {PORT} --tproxy-mark 1"
            )


async def name_itself(stream: trio.SocketStream) -> None:
    """Answer with the address that was called, by a proxy or not."""
    local = stream.socket.getsockname()
    while await read_head(stream):
        await stream.send_all(http_response(f"{local[0]}|{local[1]}".encode()))


async def main(mode: str) -> None:
    prepare(mode)
    for one, two, client, _, anywhere in NETWORK.values():
        text = web(type="original_destination").replace("    endpoints: []\n", "")
        text = text.replace("127.0.0.1:0", f"'{anywhere}:{PORT}'\n    transparent: true")
        async with running(text) as live, trio.open_nursery() as nursery:
            said: list[str] = []
            for host in (one, two, one):
                if len(said) < 2:
                    listeners = await trio.open_tcp_listeners(8080, host=host)
                    nursery.start_soon(trio.serve_listeners, name_itself, listeners)
                stream = await trio.open_tcp_stream(host, 8080, local_address=client)
                async with stream:
                    said.append((await get(Party("client", stream))).decode())
            async with await trio.open_tcp_stream(one, PORT) as stream:
                said.append((await get(Party("client", stream)))[:3].decode())
            found = {
                "said": said,
                "requests": live.cluster().stats.upstream_rq_total,
                "endpoints": [str(endpoint.address) for endpoint in live.cluster().endpoints],
            }
            print(json.dumps(found), flush=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
