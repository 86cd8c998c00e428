"""Reloads, one at a time, beside everything else: what one waits for, nobody else waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import trio

from xproxy.config.schema import Config
from xproxy.model.errors import XproxyError
from xproxy.proxy.config_file import ConfigFile

_logger = logging.getLogger(__name__)

FILE_SECONDS: Final = 60.0
"""How long the files of a configuration may take to be read; a disk or a pipe may keep us waiting for ever."""
MOST_READERS: Final = 4
"""Threads that may be stuck in such files; beyond it a reload waits for one of them, and gives up likewise."""


Load: TypeAlias = Callable[[], Config] | ConfigFile


class Reloadable(Protocol):
    """The runtime as this sees it."""

    generation: int

    async def reload(self, config: Config) -> None: ...


class Reloader:
    """Puts what ``load`` returns in force when asked to; asked again meanwhile, it does so once more afterwards.

    ``load`` runs in a thread, unless it is a file, which is read by a process of its own.
    """

    __slots__ = ("_again", "_load", "_nursery", "_readers", "_runtime", "_scope", "_told")

    def __init__(self, runtime: Reloadable, load: Load | None, nursery: trio.Nursery) -> None:
        self._runtime = runtime
        self._load = load
        self._nursery = nursery
        # Of its own: it waits for no name that is looked up, nor they for it.
        self._readers = trio.CapacityLimiter(MOST_READERS)
        self._scope: trio.CancelScope | None = None
        self._again = False
        self._told: list[trio.Event] = []

    def ask(self, told: trio.Event | None = None) -> None:
        """Begin a reload, or note that another is wanted. Never blocks.

        ``told`` is set when no reload is under way any more, however they went.
        """
        if told is not None:
            self._told.append(told)
        if self._load is None:
            _logger.warning("SIGHUP: there is no configuration file to reload")
            self._tell()
        elif self._scope is not None:
            self._again = True
        else:
            self._scope = trio.CancelScope()
            self._nursery.start_soon(self._run, self._load, self._scope)

    def cancel(self) -> None:
        """Give up whatever is under way: the proxy ends. A thread that is stuck in a file is left to itself."""
        self._again = False
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, load: Load, scope: trio.CancelScope) -> None:
        with scope:
            self._again = True
            while self._again:
                self._again = False
                await self._reload(load)
        self._scope = None
        self._tell()

    def _tell(self) -> None:
        for told in self._told:
            told.set()
        self._told.clear()

    async def _reload(self, load: Load) -> None:
        config: Config | None = None
        try:
            with trio.move_on_after(FILE_SECONDS):
                config = await self._read(load)
            if config is None:
                _logger.error(
                    "reload: nothing has changed: the files were not read within %g s", FILE_SECONDS
                )
                return
            await self._runtime.reload(config)
        except XproxyError as exc:
            _logger.error("reload: nothing has changed: %s", exc)
        else:
            _logger.info("reload: configuration %d is in force", self._runtime.generation)

    async def _read(self, load: Load) -> Config:
        if isinstance(load, ConfigFile):
            return await load.read_again(self._readers)
        return await trio.to_thread.run_sync(load, abandon_on_cancel=True, limiter=self._readers)
