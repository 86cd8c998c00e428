"""The load as a process beside this one."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench import tools
from bench.processes import Failed, pinned
from bench.takeover.kinds import KINDS
from bench.takeover.load import ANSWER_SECONDS, OPEN_SECONDS, Group, Orders
from bench.takeover.records import Run, read
from bench.takeover.stage import Stage

_MARGIN_SECONDS = 60.0


@attrs.define(eq=False)
class Loading:
    """A load under way."""

    process: subprocess.Popen[str]
    result: Path

    def _hear(self, word: str, seconds: float) -> None:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if readable else ""
        if line.strip() != word:
            raise Failed(f"the load did not say {word!r} but {line!r}")

    def ask_each(self) -> None:
        """Let it ask once on each connection."""
        self._order("ask")

    def turn(self) -> None:
        """Let it end the calls that last as long as their connection, and begin others on the same ones."""
        self._order("turn")

    def _order(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        self._hear("done", _MARGIN_SECONDS)

    def stop(self) -> Run:
        """End it and return what it saw."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(ANSWER_SECONDS + _MARGIN_SECONDS)
        if code:
            raise Failed(f"the load ended with {code}")
        return read(self.result)


@contextmanager
def loading(stage: Stage, kinds: Sequence[tuple[str, int]], rate: float) -> Iterator[Loading]:
    """Open connections of each kind, so many, and let requests flow; leaving ends it.

    Raises:
        Failed: the load could not begin.
    """
    setting = stage.setting
    result = setting.work / f"load-{time.monotonic_ns()}.json"
    orders = Orders(
        groups=tuple(
            Group(kind=kind, port=stage.ports[KINDS[kind].listener], connections=count)
            for kind, count in kinds
        ),
        rate=rate,
        authority=str(stage.authority),
        result=str(result),
    )
    with pinned(setting.load_cpu):
        process = subprocess.Popen(
            [setting.python, "-m", "bench.takeover.load"],
            cwd=tools.HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    made = Loading(process, result)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(attrs.asdict(orders)) + "\n")
        process.stdin.flush()
        made._hear("open", OPEN_SECONDS + _MARGIN_SECONDS)
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
