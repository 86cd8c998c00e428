"""Heads, frames, records and metadata: the same after they were plain values."""

from __future__ import annotations

import attrs
import pytest
import trio

from tests.connection.kit import Control
from tests.connection.test_flowing import EXCHANGE
from xproxy.connection.plain import (
    answer_of,
    asked_of,
    frames_of,
    metadata_of,
    noted,
    pieces_of,
    record_of,
    request_head,
    request_of,
    response_head,
    told_of,
)
from xproxy.model.address import Address
from xproxy.model.frames import Data, Frame, GoAway, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Rpc, Target
from xproxy.model.metadata import Key, Metadata
from xproxy.model.status import Status
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.body import BytesBody
from xproxy.stream.links import Stays
from xproxy.stream.record import Record
from xproxy.testing.proxy import facts_of


@pytest.mark.parametrize(
    "head",
    [
        RequestHead(service="", method=""),
        RequestHead(
            service="h",
            method="POST",
            headers=Headers((("A", "b"), ("A", "c"))),
            deadline=1.5,
            extra=Target(path="/a?b", rpc=Rpc("grpc", "s", "m"), hop=(("te", "x"),)),
        ),
    ],
)
def test_a_request_is_the_same_afterwards(head: RequestHead) -> None:
    assert request_head(asked_of(head)) == head


@pytest.mark.parametrize(
    "head",
    [
        ResponseHead(status=Status.OK, native_status=200, headers=Headers((("A", "b"),))),
        ResponseHead(status=Status.INTERNAL),
    ],
)
def test_a_response_is_the_same_afterwards(head: ResponseHead) -> None:
    assert response_head(answer_of(head)) == head


def test_a_head_with_facts_of_its_codec_stays() -> None:
    with pytest.raises(Stays):
        asked_of(RequestHead(service="", method="", extra=object()))
    with pytest.raises(Stays):
        answer_of(ResponseHead(status=Status.OK, extra=object()))


def test_frames_are_the_same_afterwards() -> None:
    frames: list[Frame] = [
        Data(1, b"x"),
        Data(1, b"", True),
        Trailers(1, Headers((("a", "b"),)), Status.ABORTED),
        Trailers(1, Headers()),
        GoAway(),
    ]
    assert frames_of(pieces_of(frames), 1) == frames
    with pytest.raises(Stays):
        pieces_of([Violation("x")])


def test_a_record_is_the_same_afterwards_and_has_begun() -> None:
    record = Record(
        route="r",
        cluster="c",
        endpoint=Address("127.0.0.1", 1),
        flags="UC",
        detail="d",
        received_bytes=3,
        sent_bytes=4,
        response_started=True,
        outcome=Status.ABORTED,
        priority=2,
        logged=True,
    )
    assert attrs.asdict(record_of(told_of(record)), recurse=False) == attrs.asdict(
        record, recurse=False
    )


def test_metadata_is_found_again_by_the_names_of_its_keys() -> None:
    key: Key[tuple[int, str]] = Key("tests.one")
    metadata = Metadata({key: (1, "a")})
    assert metadata_of(noted(metadata)) == metadata
    assert noted(None) == ()
    assert metadata_of((("tests.unknown", 1),)) == {}
    odd: Key[object] = Key("tests.odd")
    metadata[odd] = object()
    with pytest.raises(Stays, match=r"tests\.odd"):
        noted(metadata)


def test_a_key_with_a_namesake_is_not_found_again() -> None:
    one: Key[int] = Key("tests.namesake")
    other: Key[int] = Key("tests.namesake")
    with pytest.raises(Stays):
        noted(Metadata({one: 1}))
    assert metadata_of((("tests.namesake", 1),)) == {}
    del other
    assert noted(Metadata({one: 1})) == (("tests.namesake", 1),)


async def test_a_request_is_as_old_as_it_was() -> None:
    facts = facts_of("test", Traits(sharing=Sharing.SERIAL))
    request = request_of(EXCHANGE, facts, Control(), BytesBody())
    assert trio.current_time() - request.started == pytest.approx(EXCHANGE.age, abs=0.5)
    assert request.record.response_started
    assert request.head.method == "GET"
