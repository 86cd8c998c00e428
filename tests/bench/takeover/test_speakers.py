"""Each client of the load against what answers it: a right answer is good, and no wrong one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest

from bench.takeover.speakers.echo import Echo, bytes_of
from bench.takeover.speakers.grpc import GrpcStream, GrpcUnary
from bench.takeover.speakers.http1 import Http1
from bench.takeover.speakers.http2 import Http2
from bench.takeover.speakers.messages import Messages
from bench.takeover.speakers.rpcload import pattern
from bench.takeover.speakers.speaker import Answer, Broken, Speaker, nonce
from bench.takeover.speakers.websocket import WebSocket
from bench.takeover.upstream import EchoServing, GrpcServing, Serving, WebSocketServing

SIZE = 64


def _answer(body: bytes, more: str = "", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _exchange(speaker: Speaker, serving: Serving, data: bytes) -> list[Answer]:
    """Let both talk until neither has anything to say."""
    found: list[Answer] = []
    while data:
        back = serving.receive(data)
        answers, data = speaker.receive(back) if back else ((), b"")
        found += answers
    return found


ECHOES: Sequence[tuple[Callable[[int], Speaker], Callable[[], Serving]]] = (
    (Echo, EchoServing),
    (WebSocket, WebSocketServing),
    (GrpcStream, GrpcServing),
    (GrpcUnary, GrpcServing),
)


@pytest.mark.parametrize(("make", "serve"), ECHOES)
def test_what_comes_back_as_it_was_is_good(
    make: Callable[[int], Speaker], serve: Callable[[], Serving]
) -> None:
    speaker, serving = make(3), serve()
    found = _exchange(speaker, serving, speaker.begin())
    for number in range(9):
        found += _exchange(speaker, serving, speaker.ask(number))
    assert found == [Answer(number) for number in range(9)]
    assert speaker.ready


@attrs.define(eq=False)
class _Spoiled:
    """Changes the last byte of what a server says, from some moment on."""

    serving: Serving
    spoiling: bool = False

    def receive(self, data: bytes) -> bytes:
        found = self.serving.receive(data)
        return found[:-1] + bytes([found[-1] ^ 1]) if found and self.spoiling else found


@pytest.mark.parametrize(("make", "serve"), ECHOES[:3])
def test_one_other_bit_is_a_mismatch(
    make: Callable[[int], Speaker], serve: Callable[[], Serving]
) -> None:
    speaker, serving = make(3), _Spoiled(serve())
    _exchange(speaker, serving, speaker.begin() + (speaker.ask(0) if speaker.ready else b""))
    serving.spoiling = True
    (found,) = _exchange(speaker, serving, speaker.ask(1))
    assert found.mismatch


def test_a_call_that_lasts_is_begun_anew_on_its_connection() -> None:
    speaker, serving = GrpcStream(3), GrpcServing()
    _exchange(speaker, serving, speaker.begin())
    data = speaker.ask(0) + speaker.turn() + speaker.ask(1)
    assert _exchange(speaker, serving, data) == [Answer(0), Answer(1)]


def test_a_call_that_is_ended_by_the_peer_breaks_the_connection() -> None:
    speaker, serving = GrpcStream(3), GrpcServing()
    back = serving.receive(speaker.begin())
    back += serving.receive(bytes(3) + b"\0\1" + (1).to_bytes(4))  # as if the client had ended it
    with pytest.raises(Broken, match="was ended"):
        speaker.receive(back)


def test_answers_that_change_places_are_mismatches() -> None:
    speaker = Echo(1)
    first, second = speaker.ask(0), speaker.ask(1)
    answers, _ = speaker.receive(second + first)
    assert [bool(answer.mismatch) for answer in answers] == [True, True]


def test_bytes_nobody_asked_for_break_the_connection() -> None:
    speaker = Echo(1)
    with pytest.raises(Broken):
        speaker.receive(Echo(1).ask(0))


def test_the_bytes_of_an_echo_are_what_it_sends() -> None:
    speaker = Echo(1)
    assert bytes_of(7) == sum(len(speaker.ask(number)) for number in range(7))


def test_http1_takes_the_answer_of_its_own_nonce_only() -> None:
    speaker = Http1(5, SIZE)
    request = speaker.ask(0)
    assert nonce(5, 0) in request
    assert speaker.receive(_answer(nonce(5, 0) + pattern(SIZE))) == ((Answer(0),), b"")
    speaker.ask(1)
    (other,), _ = speaker.receive(_answer(nonce(5, 0) + pattern(SIZE)))
    assert other.mismatch
    speaker.ask(2)
    (short,), _ = speaker.receive(_answer(nonce(5, 2)))
    assert short.mismatch == f"16 bytes, not {SIZE}"


@pytest.mark.parametrize(
    "wrong", [{"status": "503 Service Unavailable"}, {"more": "Connection: close\r\n"}]
)
def test_an_error_or_a_goodbye_is_a_failure(wrong: dict[str, str]) -> None:
    speaker = Http1(5, SIZE)
    speaker.ask(0)
    (answer,), _ = speaker.receive(_answer(nonce(5, 0) + pattern(SIZE), **wrong))
    assert answer.failed


def test_what_is_not_the_protocol_breaks_the_connection() -> None:
    nonsense = bytes(3) + b"\x01\x04" + bytes(4) + b"nonsense\r\n\r\n"  # HEADERS of stream 0
    for speaker in (Http1(1, SIZE), Http2(1, SIZE), Messages(1, "bolt", SIZE)):
        speaker.begin()
        speaker.ask(0)
        with pytest.raises(Broken):
            speaker.receive(nonsense)


def test_http2_says_goodbye() -> None:
    speaker = Http2(1, SIZE)
    speaker.begin()
    goaway = (8).to_bytes(3) + b"\x07\0" + bytes(4) + bytes(8)
    with pytest.raises(Broken, match="GOAWAY"):
        speaker.receive(b"\0\0\0\x04\0" + bytes(4) + goaway)


def _bolt(message_id: int, text: bytes, status: int = 0) -> bytes:
    body = bytes([0x30 | len(text) >> 8, len(text) & 255]) + text
    head = b"\x01\x00\x00\x02\x01" + message_id.to_bytes(4) + b"\x01" + status.to_bytes(2)
    return head + (0).to_bytes(2) + (0).to_bytes(2) + len(body).to_bytes(4) + body


def test_messages_are_told_apart_by_their_ids() -> None:
    speaker = Messages(2, "bolt", SIZE)
    speaker.ask(0)
    speaker.ask(1)
    right = [_bolt(n + 1, nonce(2, n) + pattern(SIZE)) for n in (0, 1)]
    answers, _ = speaker.receive(right[1] + right[0][:30])
    assert answers == [Answer(1)]
    assert speaker.receive(right[0][30:]) == ([Answer(0)], b"")
    speaker.ask(2)
    ((wrong,), _) = speaker.receive(_bolt(3, nonce(2, 1) + pattern(SIZE)))
    assert wrong.mismatch
    speaker.ask(3)
    ((failed,), _) = speaker.receive(_bolt(4, b"", status=5))
    assert failed.failed == "status 5"
    with pytest.raises(Broken):
        speaker.receive(right[0])
