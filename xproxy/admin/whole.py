"""Pages of all workers of a proxy, of every generation that lives; of a lone one its own page, as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import attrs
import trio

from xproxy.admin.answers import Said, say, unpack
from xproxy.admin.pages import (
    CLUSTERS,
    CONFIG_DUMP,
    JSON,
    PAGES,
    PROMETHEUS,
    READY,
    STATS,
    STATS_PROMETHEUS,
    TEXT,
    UPGRADE,
    Page,
    endpoint_states,
    ready,
    with_counts,
)
from xproxy.admin.upgrade import PLACE, upgrade_text
from xproxy.observe.metrics import GAUGE, Number, Shown, prometheus_of, text_of
from xproxy.observe.together import Share, added, together
from xproxy.observe.totals import Totals
from xproxy.proxy.runtime import Runtime
from xproxy.proxy.siblings import Answers, Process


@attrs.frozen(eq=False)
class Whole:
    """What there is for one page."""

    this: Process
    here: Said
    others: Mapping[Process, Said]
    """Those that have answered, in order."""
    silent: Sequence[Process] = ()
    """Those that have not."""
    why: str = ""
    """The reason why nobody was asked."""

    def shares(self) -> list[Share]:
        """Return the numbers of each process, in order."""
        said = sorted({**self.others, self.this: self.here}.items())
        return [Share(process.labels, one.counters, one.gauges) for process, one in said]

    def added(self) -> tuple[Totals, Totals]:
        """Return the counters and the gauges of all."""
        return added(self.shares())

    def missing(self) -> list[str]:
        """Return a line for each process that is not in it."""
        lines = [f"no answer: {process}" for process in self.silent]
        return [*lines, f"of {self.this} alone: {self.why}"] if self.why else lines


async def whole_page(runtime: Runtime, path: str) -> Page:
    """Return the page at ``path``, one of ``PAGES``; waits for other workers a second at most."""
    show = _PAGES.get(path)
    if show is None or runtime.siblings is None:
        return PAGES[path](runtime)
    answers = await runtime.siblings.ask(path)
    if answers.lone:
        return PAGES[path](runtime)
    return show(runtime, await _read(answers, await say(runtime, path)))


async def _read(answers: Answers, here: Said) -> Whole:
    others: dict[Process, Said] = {}
    silent = set(answers.silent)
    for process, data in answers.told.items():
        try:
            others[process] = unpack(data)
        except ValueError:
            silent.add(process)  # of a version that says it in another way
        await trio.lowlevel.checkpoint()
    return Whole(answers.this, here, others, sorted(silent), answers.why)


# ---- pages


def _ready(runtime: Runtime, whole: Whole) -> Page:
    # The status is that of the worker which was asked: an older one drains when it has been replaced, and one that
    # is stuck is no reason to send nobody here.
    own = ready(runtime)
    lines = [f"{process}: {said.text}" for process, said in _differing(whole)]
    return _with_lines(own, "".join(lines), whole)


def _stats(runtime: Runtime, whole: Whole) -> Page:
    numbers = together(runtime.metrics, whole.shares(), sums=True)
    return _with_lines(Page(TEXT, text_of(numbers).encode()), "", whole)


def _prometheus(runtime: Runtime, whole: Whole) -> Page:
    numbers = together(runtime.metrics, whole.shares(), sums=False)
    return Page(PROMETHEUS, prometheus_of(_with_answering(numbers, whole)))


def _with_answering(numbers: Iterator[Number], whole: Whole) -> Iterator[Number]:
    yield from numbers
    shown = Shown("answering", GAUGE, "Whether the worker has told its numbers in time", "")
    answering = {**dict.fromkeys((whole.this, *whole.others), 1), **dict.fromkeys(whole.silent, 0)}
    for process, value in sorted(answering.items()):
        yield Number("worker", "", shown, value, None, process.labels)


def _configuration(_runtime: Runtime, whole: Whole) -> Page:
    different = list(_differing(whole))
    if not different and not whole.missing():
        return Page(JSON, whole.here.text.encode())
    shown = json.loads(whole.here.text)
    if different:
        shown["elsewhere"] = {str(process): json.loads(said.text) for process, said in different}
    if whole.missing():
        shown["missing"] = whole.missing()
    return Page(JSON, json.dumps(shown, indent=2).encode() + b"\n")


def _clusters(runtime: Runtime, whole: Whole) -> Page:
    counters, gauges = whole.added()
    states = list(endpoint_states(runtime))
    lines = [
        with_counts(state, {**counters.of(place), **gauges.of(place)}) for place, state in states
    ]
    here = {state for _, state in states}
    for process, said in whole.others.items():
        others = said.text.splitlines()
        lines += [f"{process}: {state}\n" for state in others if state not in here]
        if len(others) < len(states):
            lines.append(f"{process}: has {len(others)} endpoints\n")
    return _with_lines(Page(TEXT, "".join(lines).encode()), "", whole)


def _upgrade(runtime: Runtime, whole: Whole) -> Page:
    counters, gauges = whole.added()
    numbers = {**counters.of(PLACE), **gauges.of(PLACE)}
    text = upgrade_text(runtime.takeover, numbers, trio.current_time())
    stages = "".join(f"stage of {process}: {said.text}\n" for process, said in whole.others.items())
    return _with_lines(Page(TEXT, text.encode()), stages, whole)


def _differing(whole: Whole) -> Iterator[tuple[Process, Said]]:
    for process, said in whole.others.items():
        if said.text != whole.here.text:
            yield process, said


def _with_lines(page: Page, more: str, whole: Whole) -> Page:
    missing = "".join(f"{line}\n" for line in whole.missing())
    return attrs.evolve(page, body=page.body + (more + missing).encode())


_PAGES: Final[Mapping[str, Callable[[Runtime, Whole], Page]]] = {
    READY: _ready,
    STATS: _stats,
    STATS_PROMETHEUS: _prometheus,
    CONFIG_DUMP: _configuration,
    CLUSTERS: _clusters,
    UPGRADE: _upgrade,
}
