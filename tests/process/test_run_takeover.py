"""``xproxy run --takeover``: another process goes on with all connections, and the former one ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.process.load import load
from tests.process.product import PATIENCE, ROOT, Product, kill_all, product, workers_of
from tests.process.serving import echo, serving
from tests.process.test_takeover_flowing import SWITCH, WISH, chat, exchange
from tests.process.test_upgrade import control, upgrade
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow

TEXT: Final = """
workers: 2
listeners:
  - {name: edge, address: '127.0.0.1:0', routes: web}
  - {name: raw, address: '127.0.0.1:0', fallback: {cluster: echo}}
  - {name: talk, address: '127.0.0.1:0', routes: talk}
routes:
  web: [{cluster: web}]
  talk: [{cluster: chat, allow_upgrade: [websocket]}]
clusters:
  web: {endpoints: ['127.0.0.1:WEB']}
  echo: {endpoints: ['127.0.0.1:ECHO']}
  chat: {endpoints: ['127.0.0.1:CHAT']}
"""


@contextmanager
def taking_over(
    proxy: Product, *options: str, config: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run the proxy that takes over."""
    folder = proxy.config.parent
    with (folder / "next.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xproxy", "run", "--takeover"),
                *("-c", str(config or proxy.config), *control(folder), *options),
            ],
            stdout=log,
            stderr=log,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill_all(process)
        process.wait()


def connect(proxy: Product, listener: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.ports[listener]), PATIENCE)


def test_every_connection_goes_along(tmp_path: Path) -> None:
    with upstream("web") as web, serving(echo) as echoes, serving(chat) as chats:
        text = TEXT.replace("WEB", str(web)).replace("ECHO", str(echoes))
        text = text.replace("CHAT", str(chats))
        with (
            product(text, tmp_path, *control(tmp_path)) as proxy,
            connect(proxy, "raw") as raw,
            connect(proxy, "talk") as talk,
        ):
            exchange(raw, b"before")
            talk.sendall(WISH)
            assert talk.recv(len(SWITCH), socket.MSG_WAITALL).startswith(b"HTTP/1.1 101")
            exchange(talk, b"before")
            with load(proxy.port, 8) as clients:
                clients.wait(200)
                with taking_over(proxy) as process:
                    assert proxy.process.wait(PATIENCE) == 0
                    clients.wait(200)
                    exchange(raw, b"after")
                    exchange(talk, b"after")
                    assert len(workers_of(process.pid)) == 2
                    # It is the supervisor: an upgrade reaches it, and so does a signal.
                    done = upgrade(proxy)
                    assert (done.returncode, done.stderr) == (0, "")
                    assert "generation 3 serves" in done.stdout
                    clients.wait(200)
                    exchange(raw, b"later")
                    exchange(talk, b"later")
                    clients.stop()
                    assert set(clients.outcomes) == {"ok"}, clients.outcomes
                    raw.close()
                    talk.close()
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(PATIENCE) == 0
            assert not (tmp_path / "control").exists()
            said = proxy.said() + (tmp_path / "next.log").read_text()
            assert "Traceback" not in said


def test_a_wrong_file_and_nobody_there(tmp_path: Path) -> None:
    with upstream("web") as web:
        text = TEXT.replace("WEB", str(web)).replace("ECHO", "9").replace("CHAT", "9")
        bad = tmp_path / "bad.yaml"
        bad.write_text("listeners: nonsense\n")
        with product(text, tmp_path, *control(tmp_path)) as proxy, load(proxy.port, 2) as clients:
            clients.wait(50)
            with taking_over(proxy, config=bad) as process:
                assert process.wait(PATIENCE) == 2
            assert f"Error: {bad}:1:" in (tmp_path / "next.log").read_text()
            clients.wait(50)
            assert len(workers_of(proxy.process.pid)) == 2
            clients.stop()
            assert set(clients.outcomes) == {"ok"}, clients.outcomes
            assert proxy.end() == 0
        with taking_over(proxy) as process:
            assert process.wait(PATIENCE) == 1
        said = (tmp_path / "next.log").read_text()
        assert said == f"Error: no proxy answers at {tmp_path}/control: No such file or directory\n"
