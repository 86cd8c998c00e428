"""Long streams in a process of their own, beside this one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
import cattrs

from bench import tools
from bench.processes import Failed, pinned
from bench.takeover.bulk import STALL_SECONDS, Orders, Transfer, Transferred
from bench.takeover.stage import Stage


@attrs.define(eq=False)
class Streaming:
    """Long streams under way."""

    process: subprocess.Popen[str]

    def results(self, within: float) -> list[Transferred]:
        """End the repetition, wait for the last ones, and return what became of all.

        Raises:
            Failed: that takes longer than ``within`` seconds, or there are no results.
        """
        try:
            said, _ = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired as exc:
            raise Failed(f"long streams did not end within {within:g} s") from exc
        if self.process.returncode:
            raise Failed(f"the long streams' process ended with {self.process.returncode}")
        return cattrs.structure(json.loads(said), list[Transferred])


@contextmanager
def streaming(
    stage: Stage, transfers: Sequence[Transfer], *, repeat: bool = False
) -> Iterator[Streaming]:
    """Begin them; leaving ends them, whatever happens."""
    orders = Orders(transfers=tuple(transfers), repeat=repeat, authority=str(stage.authority))
    with pinned(stage.setting.load_cpu):
        process = subprocess.Popen(
            [stage.setting.python, "-m", "bench.takeover.bulk"],
            cwd=tools.HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(attrs.asdict(orders)) + "\n")
        process.stdin.flush()
        yield Streaming(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


def transfer(stage: Stage, kind: str, way: str, *, size: int, pace: float) -> Transfer:
    """Return a stream to this proxy."""
    port = stage.ports["l4-bulk" if kind == "l4" else "edge"]
    fields = {"kind": kind, "way": way, "port": port, "size": size, "pace": pace}
    return cattrs.structure(fields, Transfer)


MARGIN_SECONDS = STALL_SECONDS + 60.0
"""Streams that are not held back any more, and not stalled, end within so long."""
