"""One upgrade of the running proxy, by a command, and the end of the processes that were there before."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable

import attrs

from bench.processes import Failed
from bench.takeover.processes import Leaving
from bench.takeover.stage import Stage

COMMAND = "{python} -m xproxy upgrade --pid {pid}"
"""``{python}``: the interpreter; ``{pid}``: of the process that was started; ``{config}``: its file."""
TURN_SECONDS = 2.0
"""After the command, and between one ``then`` and the next."""
COMMAND_SECONDS = 120.0


@attrs.frozen(kw_only=True)
class Upgraded:
    """What came of it. Times are of ``time.monotonic``."""

    began: float
    told: float
    """When the command had ended."""
    let_go: float
    """When what lasts on connections, and may keep an old process, had been ended last."""
    turns: int
    """How often that was done."""
    gone: float | None
    """When the last old process had ended; None: it is still there."""
    old: tuple[int, ...]
    """Processes that were to go; none: the proxy runs in one, which stays."""
    said: str
    """What the command printed."""

    @property
    def over(self) -> float:
        """From when on only the new ones serve, as far as that was seen."""
        return self.told if self.gone is None else max(self.told, self.gone)

    @property
    def gone_after(self) -> float | None:
        """Seconds from the command to the end of the last old process."""
        return None if self.gone is None else self.gone - self.began


def upgrade(
    stage: Stage, command: str, patience: float, then: Callable[[], None] = lambda: None
) -> Upgraded:
    """Run the command and wait for the old processes, at most ``patience`` seconds after it.

    ``then`` is done after the command, and again as long as one of them stays: it ends what may keep them.

    Raises:
        Failed: the command fails.
    """
    setting = stage.setting
    argv = [
        part.format(python=setting.python, pid=stage.pid, config=stage.config)
        for part in shlex.split(command)
    ]
    leaving = Leaving([] if setting.stays else stage.workers())
    try:
        began = time.monotonic()
        done = subprocess.run(
            argv,
            cwd=setting.tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        let_go = told = time.monotonic()
        if done.returncode:
            raise Failed(f"{shlex.join(argv)} ended with {done.returncode}: {done.stdout.strip()}")
        turns = 0
        while True:
            left = told + patience - time.monotonic()
            if leaving.wait(max(0.0, min(left, TURN_SECONDS))) or left <= 0:
                break
            then()
            turns += 1
            let_go = time.monotonic()
        return Upgraded(
            began=began,
            told=told,
            let_go=let_go,
            turns=turns,
            gone=leaving.gone if leaving.pids else told,
            old=tuple(leaving.pids),
            said=done.stdout.strip(),
        )
    except subprocess.TimeoutExpired as exc:
        raise Failed(f"{shlex.join(argv)} did not end in {COMMAND_SECONDS:g} s") from exc
    finally:
        leaving.close()
