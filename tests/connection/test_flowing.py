"""The record of an exchange that flows: what is no such record raises ValueError."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from xproxy.connection.flowing import (
    Answer,
    Asked,
    FlowingExchange,
    Half,
    PastAttempt,
    Piece,
    Told,
    UpstreamEnd,
    is_plain,
)
from xproxy.connection.wire import Parts
from xproxy.model.message import Local, Target
from xproxy.stream.links import Note

END = UpstreamEnd(
    parts=Parts(codec=b"", stream=b"", unsent=b""),
    cluster="web",
    endpoint="127.0.0.1:1",
    protocol="http1",
    settings=b"digest",
    bound=False,
)
EXCHANGE = FlowingExchange(
    asked=Asked(service="h", method="GET", fields=(("a", "b"),), target=Target(path="/")),
    answer=Answer(status="ok", native_status=200),
    told=Told(),
    age=1.0,
    attempts=(PastAttempt(endpoint="127.0.0.1:1", began=1.0),),
    metadata=(("x.y", ("z", 1)),),
    deadline=float("inf"),
    idle_limit=5.0,
    untold=True,
    streamed=True,
    tunnel=False,
    up=Half(flows=True, inbox=(Piece(kind="data", data=b"x"),)),
    down=Half(flows=True, notes=(Note("access_log", (True,)),)),
    upstream=END,
)


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        (EXCHANGE, {"age": -1.0}),
        (EXCHANGE, {"age": float("nan")}),
        (EXCHANGE, {"deadline": -1.0}),
        (EXCHANGE, {"deadline": 1}),
        (EXCHANGE, {"idle_limit": "1"}),
        (EXCHANGE, {"untold": 1}),
        (EXCHANGE, {"attempts": [EXCHANGE.attempts[0]]}),
        (EXCHANGE, {"attempts": (1,)}),
        (EXCHANGE, {"metadata": (("x.y", object()),)}),
        (EXCHANGE, {"metadata": (("x.y",),)}),
        (EXCHANGE, {"metadata": tuple((str(n), n) for n in range(257))}),
        (EXCHANGE, {"up": None}),
        (EXCHANGE, {"leases": (None,)}),
        (EXCHANGE.asked, {"fields": (("a",),)}),
        (EXCHANGE.asked, {"fields": [("a", "b")]}),
        (EXCHANGE.asked, {"fields": (("a", b"b"),)}),
        (EXCHANGE.asked, {"service": b"h"}),
        (EXCHANGE.asked, {"target": Local()}),
        (EXCHANGE.answer, {"status": "fine"}),
        (EXCHANGE.told, {"sent_bytes": -1}),
        (EXCHANGE.told, {"outcome": 3}),
        (EXCHANGE.up, {"phase": "closed"}),
        (EXCHANGE.up, {"phase": "draining"}),
        (EXCHANGE.up, {"inbox": (b"x",)}),
        (EXCHANGE.up.inbox[0], {"kind": "violation"}),
        (EXCHANGE.up.inbox[0], {"data": "x"}),
        (END, {"parts": None}),
        (END, {"requests": -1}),
        (END, {"kind": 1}),
    ],
)
def test_what_cannot_be_is_refused(record: Any, wrong: dict[str, object]) -> None:
    # Any: one of many classes, with a field of the wrong type
    with pytest.raises((ValueError, TypeError)):
        attrs.evolve(record, **wrong)


def test_plain_is_what_can_be_written_down() -> None:
    assert is_plain((1, "a", (None, b"b", 1.5, True)))
    assert not is_plain([1])
    assert not is_plain((1, (object(),)))
