"""The `h2` package as the peer, in both roles, over a generated space of valid behaviours.

Two independent readings of the RFC meet here: whatever one of them sends the other must understand, and both must
agree about bodies, windows, trailers and endings, whatever the order. In between, our side moves to another process.
"""

from __future__ import annotations

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.codecs.http2.driving import client, plugin_with, server, state_of
from xproxy.codecs.http2.client import ClientCodec
from xproxy.codecs.http2.limits import FIRST_WINDOW, Http2Limits
from xproxy.codecs.http2.server import ServerCodec
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Size
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role

names = st.sampled_from(["x-a", "x-b", "accept", "x-request-id", "etag", "x-long-name-of-a-field"])
values = st.one_of(
    st.sampled_from(["", "1", "gzip", "v" * 200, "a b", "caf\xe9", "x" * 3000, "y" * 18_000]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40),
)
fields = st.lists(st.tuples(names, values), max_size=5)
bodies = st.one_of(st.binary(max_size=60), st.integers(0, 40_000).map(bytes))
paddings = st.one_of(st.none(), st.integers(0, 255))

OWN = Http2Limits(stream_window_bytes=Size(30_000), connection_window_bytes=Size(90_000))


@attrs.define
class Told:
    """What arrived on one side of a stream, and whether it is over."""

    fields: list[tuple[str, str]] = attrs.field(factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] | None = None
    ended: bool = False
    reset: bool = False


def as_text(pairs: object) -> list[tuple[str, str]]:
    """Return h2's header list as text."""
    out: list[tuple[str, str]] = []
    for name, value in pairs:  # type: ignore[attr-defined]  # a list of pairs of bytes
        out.append((name.decode("latin-1"), value.decode("latin-1")))
    return out


class Meeting(RuleBasedStateMachine):
    """Our codec and h2, and what each has told the other."""

    role: Role

    def __init__(self) -> None:
        super().__init__()
        config = h2.config.H2Configuration(
            client_side=self.role is Role.SERVER, header_encoding=None
        )
        self.peer = h2.connection.H2Connection(config)
        self.plugin = plugin_with(OWN)
        self.codec: ServerCodec | ClientCodec = (
            server(own=OWN) if self.role is Role.SERVER else client(own=OWN)
        )
        self.sent: dict[int, Told] = {}
        """What we sent."""
        self.heard: dict[int, Told] = {}
        """What we were given."""
        self.peer_sent: dict[int, Told] = {}
        self.peer_heard: dict[int, Told] = {}
        self.unconsumed: list[tuple[int, int]] = []
        self.last: dict[int, Frame] = {}

    # -- the wire

    def to_us(self) -> None:
        """Deliver what h2 has to say, in pieces."""
        wire = self.peer.data_to_send()
        middle = len(wire) // 3
        for piece in (wire[:middle], wire[middle:]):
            for frame in self.codec.receive(piece):
                self.take(frame)

    def take(self, frame: Frame) -> None:
        assert not isinstance(frame, Violation), frame.detail
        if isinstance(frame, Reply):
            self.to_peer(frame.data)
        elif isinstance(frame, Head | Data | Trailers | Reset):
            told = self.heard.setdefault(frame.stream_id, Told())
            if isinstance(frame, Reset):
                told.reset = True
                return
            if isinstance(frame, Head):
                told.fields = list(frame.message.headers.pairs)
            if isinstance(frame, Trailers):
                told.trailers = list(frame.headers.pairs)
                told.ended = True
                return
            told.body += frame.data
            told.ended = frame.end
            if frame.data:
                self.unconsumed.append((frame.stream_id, len(frame.data)))

    def to_peer(self, wire: bytes) -> None:
        """Deliver what we have to say."""
        if not wire:
            return
        for event in self.peer.receive_data(wire):
            self.note(event)
        self.to_us()

    def note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
            self.peer_heard.setdefault(event.stream_id, Told()).fields = as_text(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.peer_heard[event.stream_id].body += event.data
            if event.flow_controlled_length:
                self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.peer_heard[event.stream_id].trailers = as_text(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.peer_heard[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.peer_heard.setdefault(event.stream_id, Told()).reset = True

    @initialize(
        first=st.sampled_from([0, 7, 1000, 65_535, 100_000]), table=st.sampled_from([0, 100, 4096])
    )
    def start(self, first: int, table: int) -> None:
        self.peer.local_settings = h2.settings.Settings(
            client=self.role is Role.SERVER,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: first,
                h2.settings.SettingCodes.HEADER_TABLE_SIZE: table,
            },
        )
        self.peer.initiate_connection()
        self.to_peer(b"".join(f.data for f in self.codec.receive(b"") if isinstance(f, Reply)))
        self.to_us()

    # -- what is said

    def over(self, stream_id: int) -> bool:
        tolds = (self.sent, self.heard, self.peer_sent, self.peer_heard)
        return any(told[stream_id].reset for told in tolds if stream_id in told)

    def open_for(self, told: dict[int, Told]) -> list[int]:
        return [i for i, one in told.items() if not one.ended and not self.over(i)]

    @rule(body=bodies, end=st.booleans(), data=st.data())
    def we_send_data(self, body: bytes, end: bool, data: st.DataObject) -> None:
        streams = self.open_for(self.sent)
        if not streams:
            return
        stream_id = data.draw(st.sampled_from(streams))
        body = body[: self.codec.sendable(stream_id)]
        self.sent[stream_id].body += body
        self.sent[stream_id].ended = end
        self.to_peer(self.codec.send(Data(stream_id, body, end)))

    @rule(trailers=fields, data=st.data())
    def we_send_trailers(self, trailers: list[tuple[str, str]], data: st.DataObject) -> None:
        streams = self.open_for(self.sent)
        if not streams:
            return
        stream_id = data.draw(st.sampled_from(streams))
        told = self.sent[stream_id]
        told.trailers = [(n, v) for n, v in trailers if n != "etag"] or None
        told.ended = True
        self.to_peer(self.codec.send(Trailers(stream_id, Headers(told.trailers or ()))))

    @rule(body=bodies, end=st.booleans(), padding=paddings, data=st.data())
    def peer_sends_data(
        self, body: bytes, end: bool, padding: int | None, data: st.DataObject
    ) -> None:
        streams = self.open_for(self.peer_sent)
        if not streams:
            return
        stream_id = data.draw(st.sampled_from(streams))
        room = self.peer.local_flow_control_window(stream_id)
        if padding is not None and room < 300:
            padding = None
        body = body[: min(room - (0 if padding is None else padding + 1), 16_000)]
        if not body and not end and state_of(self.codec).counters.get("empty"):
            return  # one in a row is all that anybody may send
        self.peer_sent[stream_id].body += body
        self.peer_sent[stream_id].ended = end
        self.peer.send_data(stream_id, body, end_stream=end, pad_length=padding)
        self.to_us()

    @rule(trailers=fields.filter(bool), data=st.data())
    def peer_sends_trailers(self, trailers: list[tuple[str, str]], data: st.DataObject) -> None:
        streams = self.open_for(self.peer_sent)
        if not streams:
            return
        stream_id = data.draw(st.sampled_from(streams))
        told = self.peer_sent[stream_id]
        told.trailers = trailers
        told.ended = True
        self.peer.send_headers(
            stream_id,
            [(n.encode("latin-1"), v.encode("latin-1")) for n, v in trailers],
            end_stream=True,
        )
        self.to_us()

    @rule(data=st.data())
    def we_consume(self, data: st.DataObject) -> None:
        if self.unconsumed:
            index = data.draw(st.integers(0, len(self.unconsumed) - 1))
            stream_id, count = self.unconsumed.pop(index)
            self.to_peer(self.codec.consumed(stream_id, count))

    @rule(data=st.data(), status=st.sampled_from([Status.CANCELLED, Status.INTERNAL, Status.OK]))
    def we_reset(self, data: st.DataObject, status: Status) -> None:
        streams = [i for i in state_of(self.codec).streams if not self.over(i)]
        if streams:
            stream_id = data.draw(st.sampled_from(streams))
            self.sent.setdefault(stream_id, Told()).reset = True
            self.to_peer(self.codec.send(Reset(stream_id, status)))

    @rule(data=st.data())
    def peer_resets(self, data: st.DataObject) -> None:
        streams = [i for i in state_of(self.codec).streams if not self.over(i)]
        if streams:
            stream_id = data.draw(st.sampled_from(streams))
            self.peer_sent.setdefault(stream_id, Told()).reset = True
            self.peer.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
            self.to_us()

    @rule(first=st.sampled_from([0, 5, 20_000, 70_000, 200_000]))
    def peer_changes_the_initial_window(self, first: int) -> None:
        self.peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: first})
        self.to_us()

    @rule(table=st.sampled_from([0, 64, 300, 4096, 10_000]))
    def peer_changes_the_table(self, table: int) -> None:
        self.peer.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: table})
        self.to_us()

    @rule(size=st.sampled_from([16_384, 20_000, 2**24 - 1]))
    def peer_changes_the_frame_size(self, size: int) -> None:
        self.peer.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: size})
        self.to_us()

    @rule(
        several=st.dictionaries(
            st.sampled_from(
                [
                    h2.settings.SettingCodes.INITIAL_WINDOW_SIZE,
                    h2.settings.SettingCodes.HEADER_TABLE_SIZE,
                ]
            ),
            st.sampled_from([100, 65_535, 80_000]),
        )
    )
    def peer_changes_several(self, several: dict[h2.settings.SettingCodes | int, int]) -> None:
        self.peer.update_settings(dict(several))
        self.to_us()

    @rule(data=st.data())
    def peer_names_a_priority(self, data: st.DataObject) -> None:
        streams = [i for i in state_of(self.codec).streams if not self.over(i)]
        if streams and self.role is Role.SERVER:
            self.peer.prioritize(data.draw(st.sampled_from(streams)), weight=7)
            self.to_us()

    @rule(payload=st.binary(min_size=8, max_size=8))
    def peer_pings(self, payload: bytes) -> None:
        self.peer.ping(payload)
        self.to_us()

    @rule()
    def we_ask_for_life(self) -> None:
        self.to_peer(self.codec.heartbeat())

    @rule()
    def we_move(self) -> None:
        """Another process goes on."""
        moved = self.plugin.restore(self.codec.snapshot(), self.role, DEFAULT_LIMITS)
        assert isinstance(moved, ServerCodec | ClientCodec)
        assert moved.snapshot() == self.codec.snapshot()
        self.codec = moved

    # -- what must hold

    @invariant()
    def both_agree(self) -> None:
        for stream_id, told in self.sent.items():
            got = self.peer_heard.get(stream_id)
            if got is None or self.over(stream_id):
                continue
            assert got.body == told.body
            assert got.ended == told.ended
            assert got.trailers == told.trailers
        for stream_id, told in self.peer_sent.items():
            if self.over(stream_id):
                continue
            ours = self.heard[stream_id]
            assert ours.body == told.body
            assert ours.ended == told.ended
            kept = [(n, v) for n, v in told.trailers or ()]
            assert (ours.trailers or []) == kept
        for stream_id in self.open_for(self.sent):
            if stream_id in state_of(self.codec).streams:
                window = self.peer.remote_flow_control_window(stream_id)
                assert self.codec.sendable(stream_id) == max(window, 0)

    @invariant()
    def we_hold_no_more_than_we_must(self) -> None:
        assert len(state_of(self.codec).streams) <= len(self.heard) + len(self.sent)
        waiting = sum(count for _, count in self.unconsumed)
        streams = len(self.heard) + len(self.sent)
        assert waiting <= streams * FIRST_WINDOW + OWN.connection_window_bytes


class AsServer(Meeting):
    """h2 asks, we answer. Without goodbyes: h2 takes nothing after a GOAWAY, not even answers that it is owed."""

    role = Role.SERVER

    @precondition(lambda self: len(self.peer_sent) < 12)
    @rule(extra=fields, method=st.sampled_from(["GET", "POST", "HEAD"]), end=st.booleans())
    def peer_asks(self, extra: list[tuple[str, str]], method: str, end: bool) -> None:
        stream_id = self.peer.get_next_available_stream_id()
        pairs = [
            (":method", method),
            (":scheme", "http"),
            (":path", f"/{len(extra)}"),
            (":authority", "a.example"),
            *extra,
        ]
        self.peer_sent[stream_id] = Told(fields=extra, ended=end)
        self.peer.send_headers(
            stream_id,
            [(n.encode("latin-1"), v.encode("latin-1")) for n, v in pairs],
            end_stream=end,
            # h2 puts no priority before a block that needs more than one frame.
            priority_weight=20 if len(extra) % 2 and sum(len(v) for _, v in extra) < 8000 else None,
        )
        self.to_us()
        assert self.heard[stream_id].fields == extra

    @rule(extra=fields, interim=st.booleans(), body=bodies, end=st.booleans(), data=st.data())
    def we_answer(
        self,
        extra: list[tuple[str, str]],
        interim: bool,
        body: bytes,
        end: bool,
        data: st.DataObject,
    ) -> None:
        waiting = [i for i in self.heard if i not in self.sent and not self.over(i)]
        if not waiting:
            return
        stream_id = data.draw(st.sampled_from(waiting))
        if interim:
            early = ResponseHead(status=Status.OK, native_status=103)
            self.to_peer(self.codec.send(Head(stream_id, early, interim=True)))
        head = ResponseHead(status=Status.OK, native_status=200, headers=Headers(extra))
        body = body[: self.codec.sendable(stream_id)]
        muted = state_of(self.codec).streams[stream_id].muted
        self.sent[stream_id] = Told(fields=extra, body=b"" if muted else body, ended=end)
        self.to_peer(self.codec.send(Head(stream_id, head, body, end)))
        got = self.peer_heard[stream_id]
        assert got.fields == [(":status", "200"), *extra]
        if muted and not end:
            self.sent[stream_id].ended = True
            self.to_peer(self.codec.send(Data(stream_id, b"", True)))


class AsClient(Meeting):
    """We ask, h2 answers."""

    role = Role.CLIENT

    @precondition(lambda self: len(self.sent) < 12 and state_of(self.codec).peer_last < 0)
    @rule(extra=fields, path=st.sampled_from(["/", "/a?b=c"]), end=st.booleans())
    def we_ask(self, extra: list[tuple[str, str]], path: str, end: bool) -> None:
        assert isinstance(self.codec, ClientCodec)
        head = RequestHead(
            service="a.example", method="POST", headers=Headers(extra), extra=Target(path=path)
        )
        if self.codec.saturated:
            return
        stream_id = self.codec.next_stream_id()
        self.sent[stream_id] = Told(fields=extra, ended=end)
        self.to_peer(self.codec.send(Head(stream_id, head, b"", end)))
        got = self.peer_heard[stream_id]
        assert [pair for pair in got.fields if pair[0][0] != ":"] == extra

    @rule(most=st.sampled_from([1, 2, 5, 100]))
    def peer_changes_how_many_it_takes(self, most: int) -> None:
        self.peer.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: most})
        self.to_us()

    @precondition(lambda self: len(self.sent) < 12 and state_of(self.codec).peer_last < 0)
    @rule(extra=fields)
    def we_ask_where_there_may_be_no_room(self, extra: list[tuple[str, str]]) -> None:
        """Above what the peer takes a request is refused, and nothing has changed."""
        codec = self.codec
        assert isinstance(codec, ClientCodec)
        head = RequestHead(
            service="a.example", method="GET", headers=Headers(extra), extra=Target(path="/w")
        )
        stream_id = codec.next_stream_id()
        assert codec.saturated is (codec.room <= 0)
        if codec.saturated:
            before = codec.snapshot()
            with pytest.raises(LocalProtocolError):
                codec.send(Head(stream_id, head, b"", True))
            assert codec.snapshot() == before
            return
        room = codec.room
        self.sent[stream_id] = Told(fields=extra, ended=True)
        self.to_peer(codec.send(Head(stream_id, head, b"", True)))
        assert codec.room == room - 1
        assert stream_id in self.peer_heard

    @rule(extra=fields, interim=st.booleans(), end=st.booleans(), data=st.data())
    def peer_answers(
        self, extra: list[tuple[str, str]], interim: bool, end: bool, data: st.DataObject
    ) -> None:
        waiting = [i for i in self.peer_heard if i not in self.peer_sent and not self.over(i)]
        if not waiting:
            return
        stream_id = data.draw(st.sampled_from(waiting))
        if interim:
            self.peer.send_headers(stream_id, [(b":status", b"103")])
        self.peer_sent[stream_id] = Told(fields=extra, ended=end)
        pairs = [(":status", "200"), *extra]
        self.peer.send_headers(
            stream_id,
            [(n.encode("latin-1"), v.encode("latin-1")) for n, v in pairs],
            end_stream=end,
        )
        self.to_us()
        assert self.heard[stream_id].fields == extra


modest = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
AsServer.TestCase.settings = modest
AsClient.TestCase.settings = modest
TestAsServer = AsServer.TestCase
TestAsClient = AsClient.TestCase


def test_h2_understands_our_goodbye() -> None:
    meeting = AsServer()
    meeting.start(65_535, 4096)
    meeting.peer_asks([], "GET", True)
    events = meeting.peer.receive_data(meeting.codec.goaway()[:17])  # h2 chokes on the PING behind
    assert any(isinstance(e, h2.events.ConnectionTerminated) for e in events)


def test_we_understand_h2s_goodbye() -> None:
    meeting = AsClient()
    meeting.start(65_535, 4096)
    meeting.we_ask([], "/", True)
    meeting.peer.close_connection(last_stream_id=1)
    frames = meeting.codec.receive(meeting.peer.data_to_send())
    assert frames == [GoAway(1, Status.OK)]
