"""The demo's proxy: the command itself, in a process of its own, so that it can be upgraded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import click
import trio

from xproxy.config.dump import config_dump
from xproxy.config.schema import Config
from xproxy.model.address import Address

READY_SECONDS: Final = 30.0
"""Until it listens."""
UPGRADE_SECONDS: Final = 120.0
END_SECONDS: Final = 5.0
"""That it may take to end after each of two signals, before it is killed."""
_MOST_SAID: Final = 65536


class ProxyFailed(Exception):
    """The proxy, or its upgrade, did not do what it should; says why."""


@attrs.frozen
class Proxy:
    """A running proxy."""

    process: trio.Process
    address: Address

    async def upgrade(self) -> str:
        """Put a new process in the place of the running one; return the command's last line. Raises ProxyFailed."""
        command = [sys.executable, "-m", "xproxy", "upgrade", "--pid", str(self.process.pid)]
        try:
            with trio.fail_after(UPGRADE_SECONDS):
                done = await trio.run_process(
                    command, capture_stdout=True, stderr=subprocess.STDOUT, check=False
                )
        except trio.TooSlowError as exc:
            raise ProxyFailed(f"the upgrade did not end in {UPGRADE_SECONDS:.0f} s") from exc
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise ProxyFailed(f"the upgrade failed: {_reason(said)}")
        return said.rpartition("\n")[2]


@asynccontextmanager
async def running(config: Config, folder: Path) -> AsyncIterator[Proxy]:
    """Run the proxy on a configuration of one listener; leaving ends it. Raises ProxyFailed if it does not listen."""
    path = folder / "demo.yaml"
    path.write_text(json.dumps(config_dump(config)))  # what is JSON is YAML
    command = [sys.executable, "-m", "xproxy", "run", "-c", str(path), "--log-level", "warning"]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdout, process.stderr:
        try:
            address = await _listening(process, process.stdout, process.stderr)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pass_on, process.stderr)
                nursery.start_soon(_pass_on, process.stdout)
                yield Proxy(process, address)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)


async def _listening(
    process: trio.Process, said: trio.abc.ReceiveStream, wrong: trio.abc.ReceiveStream
) -> Address:
    text = b""
    with trio.move_on_after(READY_SECONDS):
        while b"\n" not in text and (data := await said.receive_some()):
            text += data
        if b"\n" not in text:
            raise ProxyFailed(_reason((await _rest(wrong)).decode(errors="replace")))
        return Address.parse(text.partition(b"\n")[0].decode().split()[-1])
    raise ProxyFailed(f"the proxy does not listen after {READY_SECONDS:.0f} s")


async def _rest(stream: trio.abc.ReceiveStream) -> bytes:
    text = b""
    while len(text) < _MOST_SAID and (data := await stream.receive_some()):
        text += data
    return text


def _reason(said: str) -> str:
    return said.strip().removeprefix("Error: ") or "it said nothing"


async def _pass_on(stream: trio.abc.ReceiveStream) -> None:
    """Show what the proxy says, as if it were us."""
    while data := await stream.receive_some():
        click.echo(bytes(data), nl=False, err=True)


async def _end(process: trio.Process) -> None:
    for signalled in (process.terminate, process.terminate, process.kill):
        if process.returncode is None:
            signalled()
        with trio.move_on_after(END_SECONDS):
            await process.wait()
            return
