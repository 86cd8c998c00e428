"""A process takes the place of another one while clients of all protocols ask: none of them notices."""

from __future__ import annotations

import random
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.process import mixed
from tests.process.load import REQUEST, load
from tests.process.mixed_clients import CLIENTS, NAME, RPC, TUNNEL, Tally, Target, drive
from tests.process.product import LOAD_SECONDS, PATIENCE
from tests.process.upstreams import running, upstream
from tests.process.workers import workers

pytestmark = pytest.mark.slow
WEB = (
    "listeners:\n"
    "  - {{name: edge, address: '{{0}}', routes: main}}\n"
    "routes: {{main: [{{cluster: web}}]}}\n"
    "clusters: {{web: {{endpoints: ['127.0.0.1:{port}']}}}}\n"
)


def test_under_load_no_request_fails_and_no_connection_ends(tmp_path: Path) -> None:
    with upstream("web") as port, workers(WEB.format(port=port), tmp_path) as them:
        old = them.start()
        idle = [socket.create_connection(("127.0.0.1", them.port), PATIENCE) for _ in range(50)]
        with ExitStack() as stack:
            for client in idle:
                stack.enter_context(client)
                client.sendall(REQUEST)
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            with load(them.port, 16) as clients:
                clients.wait(200)
                for _ in range(3):
                    new = them.start()
                    old.give()
                    assert old.wait_for("gone", "withdrawn")["why"] == ""
                    assert old.ended() == 0
                    assert new.wait_for("alone")["why"] == ""
                    clients.wait(200)
                    old = new
                assert clients.alive == 16
            assert clients.failed == {}
            assert set(clients.outcomes) == {"ok"}
            for client in idle:
                client.sendall(REQUEST)
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.tool("gcc")
def test_with_all_protocols_no_request_fails(tmp_path: Path) -> None:
    rpcload = mixed.compiled(tmp_path)
    authority = Authority(tmp_path / "certificates")
    shown = authority.issue(NAME, TUNNEL.partition(":")[0], "127.0.0.1")
    seconds = LOAD_SECONDS * 4
    with ExitStack() as stack:
        ports = stack.enter_context(mixed.upstreams(rpcload))
        text = mixed.configuration(ports, shown)
        text = text.replace("address: 127.0.0.1:0", "address: '{0}'")
        them = stack.enter_context(workers(text, tmp_path))
        old = them.start("--patience", "30")
        secured = [
            sys.executable,
            str(mixed.HERE / "secured.py"),
            str(them.port),
            str(authority.ca),
        ]
        tls_port, _ = stack.enter_context(running([*secured, NAME], int))
        over = threading.Event()
        tallies: dict[str, Tally] = {}
        threads = []
        for protocol, client in CLIENTS.items():
            for tls in (False, True):
                tally = tallies[f"{protocol} {'in TLS' if tls else 'in clear'}"] = Tally()
                target = Target(
                    port=tls_port if tls and protocol in RPC else them.port,
                    authority=authority.ca if tls else None,
                    over=over,
                    seconds=seconds,
                    rpcload=rpcload,
                    random=random.Random(f"7 {protocol} {tls}"),
                )
                threads.append(threading.Thread(target=drive, args=(client, target, tally)))
        for thread in threads:
            thread.start()
        try:
            over.wait(seconds / 4)
            new = them.start()
            old.give()
            said = old.wait_for("given", "withdrawn")
            assert said["step"] == "given", said
            over.wait(seconds / 2)
        finally:
            over.set()
            for thread in threads:
                thread.join(5 * PATIENCE)
        said = old.wait_for("gone", "withdrawn")
        assert said["why"] == "", said
        assert old.ended() == 0
        assert new.wait_for("alone")["why"] == ""
        wrong = {name: tally for name, tally in tallies.items() if tally.errors or tally.mismatches}
        assert not wrong, (wrong, said, new.log.read_text()[-2000:])
        assert all(tally.requests for tally in tallies.values()), tallies
