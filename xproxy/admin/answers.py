"""What one worker tells another for a page of all: the numbers that the page needs, and what it would show itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs
import trio

from xproxy.admin.pages import (
    CLUSTERS,
    CONFIG_DUMP,
    READY,
    STATS,
    STATS_PROMETHEUS,
    UPGRADE,
    configuration,
    endpoint_states,
    ready,
)
from xproxy.admin.upgrade import PLACE, stage_text
from xproxy.codecs.state_kinds import text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.migration.counts import ENDPOINT, standing
from xproxy.observe.totals import MOST, Place, Totals, totals_kind
from xproxy.proxy.runtime import Runtime
from xproxy.transport.breather import unhurried

MOST_TEXT: Final = 16 * 1024 * 1024
"""Characters of what a worker would show itself; what has more is not told."""


@attrs.frozen(eq=False)
class Said:
    """What a worker says of itself for one page."""

    text: str = ""
    """What is compared with others': a configuration, a line for each endpoint, a stage."""
    counters: Totals = attrs.field(factory=Totals)
    gauges: Totals = attrs.field(factory=Totals)


_SCHEMA: Final = StateSchema(
    "admin-answer",
    1,
    StateRecord(
        Said,
        state_field("text", text(MOST_TEXT)),
        state_field("counters", totals_kind(0)),
        state_field("gauges", totals_kind(-MOST)),
    ),
)


def unpack(data: bytes) -> Said:
    """Return what ``answer`` has packed. Raises ValueError."""
    return _SCHEMA.unpack(data)


async def answer(runtime: Runtime, what: str) -> bytes | None:
    """Return what this worker says of itself for the page ``what``; None: there is no such page. See siblings."""
    if what not in TOLD:
        await trio.lowlevel.checkpoint()
        return None
    said = await say(runtime, what)
    return None if len(said.text) > MOST_TEXT else _SCHEMA.pack(said)


async def say(runtime: Runtime, what: str) -> Said:
    """Return what this worker says of itself for the page ``what``, one of ``TOLD``. Mostly no checkpoint."""
    wanted = _WANTED.get(what)
    if wanted is None:
        return Said(TOLD[what](runtime))
    counters, gauges = await unhurried(standing(runtime, wanted))
    return Said(TOLD[what](runtime), counters, gauges)


def _nothing(_runtime: Runtime) -> str:
    return ""


def _configuration(runtime: Runtime) -> str:
    return configuration(runtime).body.decode()


def _ready(runtime: Runtime) -> str:
    return ready(runtime).body.decode()


def _endpoints(runtime: Runtime) -> str:
    return "".join(f"{state}\n" for _, state in endpoint_states(runtime))


def _stage(runtime: Runtime) -> str:
    return stage_text(runtime.takeover, trio.current_time())


def _is_shown(place: Place) -> bool:
    return place[0] != ENDPOINT


def _is_endpoint(place: Place) -> bool:
    return place[0] == ENDPOINT


def _is_takeover(place: Place) -> bool:
    return place == PLACE


TOLD: Final[Mapping[str, Callable[[Runtime], str]]] = {
    READY: _ready,
    STATS: _nothing,
    STATS_PROMETHEUS: _nothing,
    CONFIG_DUMP: _configuration,
    CLUSTERS: _endpoints,
    UPGRADE: _stage,
}
"""The text for each page that is of all workers."""
_WANTED: Final[Mapping[str, Callable[[Place], bool]]] = {
    STATS: _is_shown,
    STATS_PROMETHEUS: _is_shown,
    CLUSTERS: _is_endpoint,
    UPGRADE: _is_takeover,
}
