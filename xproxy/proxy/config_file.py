"""The configuration file of a running proxy, read again by a process of its own.

To read a file of thousands of clusters takes seconds, in which a thread would keep the GIL for milliseconds at a
time, and the garbage collector for hundreds of them. The other process says what has changed; nothing else is made
anew.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Final

import trio

from xproxy.config.apart import command, understand
from xproxy.config.changes import changing
from xproxy.config.checks import note_as_right
from xproxy.config.findings import Finding
from xproxy.config.load import Loaded, converter_for, read_file
from xproxy.config.schema import Config
from xproxy.registry import Registry
from xproxy.transport.breather import unhurried

_logger = logging.getLogger(__name__)

LARGE_BYTES: Final = 16 * 1024
"""From this size on a process of its own is worth the half second that it takes to start: shorter files take less
than 20 ms to be read."""
_PIECE: Final = 64 * 1024
_MOST_TOLD: Final = 4096
"""Bytes kept of what the other process says of its failure."""
_GOODBYE: Final = 1.0
"""Seconds for the other process to be gone once it was killed; a disk that does not answer holds it for longer."""


class ConfigFile:
    """A configuration file, with what was read of it last."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        registry: Registry,
        tell: Callable[[Iterable[Finding]], None] = lambda _: None,
        command: Callable[[str], list[str]] = command,
    ) -> None:
        """``tell`` is given what is odd about it, each time; ``command``: how the other process is started.

        ``registry``: what is installed; the other process finds the same.
        """
        self._path = os.fspath(path)
        self._registry = registry
        self._tell = tell
        self._command = command
        base = FilePath(path).parent.absolute()
        # One for all times: each is a circle of hundreds of objects.
        self._converter = converter_for(registry, base)
        self._config: Config | None = None
        self._text = b""

    def read(self) -> Config:
        """Read it in this process, all of it. Raises InvalidConfig."""
        return self._take(read_file(self._path, self._registry))

    async def read_again(self, limiter: trio.CapacityLimiter) -> Config:
        """Read it while others are served; what has not changed since it was read last is the same object.

        ``limiter``: of threads, where no other process can be had. Raises InvalidConfig.
        """
        size = await trio.to_thread.run_sync(self._size, abandon_on_cancel=True, limiter=limiter)
        large = max(size, len(self._text)) >= LARGE_BYTES
        if large and self._config is not None and not getattr(sys, "frozen", False):
            try:
                return await self._changed(self._config, await self._ask())
            except (OSError, ValueError) as exc:
                _logger.warning(
                    "reload: requests may wait: the file is read in this process, as another one fails: %s",
                    exc,
                )
        loaded = await trio.to_thread.run_sync(
            read_file, self._path, self._registry, abandon_on_cancel=True, limiter=limiter
        )
        return self._take(loaded)

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0  # whoever reads it says what is wrong

    def _take(self, loaded: Loaded) -> Config:
        self._tell(loaded.warnings)
        self._config, self._text = loaded.config, loaded.text.encode()
        return loaded.config

    async def _changed(self, config: Config, said: bytes) -> Config:
        answer = understand(said)
        changed = await unhurried(changing(config, answer.items, self._converter))
        note_as_right(changed, self._registry)
        self._tell(answer.warnings)
        self._config, self._text = changed, answer.text
        return changed

    async def _ask(self) -> bytes:
        # A session of its own: what is meant for the proxy at a terminal is not for it. Descriptors are closed by
        # exec, all of them (PEP 446); to close thousands one by one would take milliseconds before it.
        process = await trio.lowlevel.open_process(
            self._command(self._path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=False,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said, told = bytearray(), bytearray()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process.stdin, self._text)
                nursery.start_soon(_listen, process.stderr, told, _MOST_TOLD)
                await _listen(process.stdout, said)
            code = await process.wait()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(_GOODBYE):
                if process.returncode is None:
                    process.kill()
                for stream in (process.stdin, process.stdout, process.stderr):
                    await stream.aclose()
                await process.wait()
        if code:
            last = bytes(told).decode(errors="replace").strip().rpartition("\n")[2]
            raise ValueError(f"exit code {code}: {last}")
        return bytes(said)


async def _feed(stream: trio.abc.SendStream, data: bytes) -> None:
    # One that ends before it has heard all says why by its exit code.
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)
    await stream.aclose()


async def _listen(stream: trio.abc.ReceiveStream, into: bytearray, keep: int = sys.maxsize) -> None:
    """Read to the end; the last ``keep`` bytes are kept."""
    with suppress(trio.BrokenResourceError):
        while piece := await stream.receive_some(_PIECE):
            into += piece
            if len(into) > keep:
                del into[:-keep]
