"""Many streams on one client's connection, each message whole, from end to end in memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.rpc import (
    ASK,
    OK,
    Gate,
    echo,
    frames_of,
    oneway,
    question,
    reply,
    timeouts,
)
from tests.connection.shared.wires import Sink
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.http2.wire import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS_ACK,
    frame,
    ping,
    rst_stream,
    settings,
)
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import UpstreamReset
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS, KIB, MIB, Duration, Limits
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.stream.held import COUNTED
from xproxy.testing import END, NOTHING, play
from xproxy.testing.fakes import LINES
from xproxy.testing.proxy import proxy_pair
from xproxy.transport.farewell import LONGEST_FAREWELL


async def test_answers_go_back_in_the_order_they_come_with_the_clients_ids(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(7, b"a") + question(3, b"b") + question(99, b"c"))
        await wait_all_tasks_blocked()
        assert sorted(gate.entered) == [b"a", b"b", b"c"]
        for name, id_ in ((b"c", 99), (b"a", 7), (b"b", 3)):
            gate.let_go(name)
            await pair.client.expect(reply(id_, name))
        assert pair.stats.downstream_rq_total == 3


@pytest.mark.parametrize("plugin", [LINES, BOLT])
async def test_many_streams_share_one_upstream_connection_and_keep_their_ids(
    plugin: CodecPlugin, autojump_clock: MockClock
) -> None:
    random = Random(1)
    client_codec = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    server_codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    async with proxy_pair(plugin) as pair:
        ids = random.sample(range(1, 100_000), 200)
        await pair.client.send(
            b"".join(client_codec.send(Head(id_, ASK, b"%d" % id_, True)) for id_ in ids)
        )
        upstream = await pair.accept()
        asked = await frames_of(upstream, server_codec, 200)
        assert len({frame.stream_id for frame in asked}) == 200
        random.shuffle(asked)
        await upstream.send(
            b"".join(
                server_codec.send(Head(frame.stream_id, OK, b"re " + frame.data, True))
                for frame in asked
            )
        )
        answers = await frames_of(pair.client, client_codec, 200)
        assert {frame.stream_id: frame.data for frame in answers} == {
            id_: b"re %d" % id_ for id_ in ids
        }
        assert pair.connector.opened.statistics().current_buffer_used == 0


async def test_a_batch_of_answers_leaves_in_one_write(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=echo, bounded=True) as pair:
        await pair.client.send(b"".join(question(i) for i in range(30)))
        got = bytes(await pair.client.raw.receive_some())
        assert sorted(got.splitlines()) == sorted(reply(i).rstrip() for i in range(30))


async def test_oneway_messages_are_handled_and_not_answered(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES) as pair:
        await pair.client.send(oneway(1, b"log this"))
        upstream = await pair.accept()
        await upstream.expect(b"~o 1 s m 8 -\nlog this")
        await pair.client.send(question(2, b"q"))
        await upstream.expect(b"~q 2 s m 1 -\nq")
        await upstream.send(reply(2))
        await pair.client.expect(reply(2))
        await pair.client.expect(NOTHING)
        assert pair.stats.downstream_rq_active == 0


async def test_oneway_messages_with_one_id_are_streams_of_their_own(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate, max_streams=4) as pair:
        for name in (b"a", b"b", b"c", b"d"):
            await pair.client.send(oneway(0, name))
        await wait_all_tasks_blocked()
        assert isinstance(pair.driver, Multiplexed)
        assert pair.driver.streams == 4
        # At the bound: no more are read.
        await pair.client.send(oneway(0, b"e"))
        await wait_all_tasks_blocked()
        assert sorted(gate.entered) == [b"a", b"b", b"c", b"d"]
        gate.let_go(b"a")
        await wait_all_tasks_blocked()
        assert gate.entered[-1] == b"e"
        gate.let_go(b"b", b"c", b"d", b"e")
        await wait_all_tasks_blocked()
        assert pair.driver.streams == 0


async def test_no_more_streams_than_max_streams_are_taken(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate, max_streams=2) as pair:
        for i in range(4):
            await pair.client.send(question(i, b"%d" % i))
            await wait_all_tasks_blocked()
        assert gate.entered == [b"0", b"1"]
        gate.let_go(b"1")
        await pair.client.expect(reply(1, b"1"))
        await wait_all_tasks_blocked()
        assert gate.entered == [b"0", b"1", b"2", b"3"][: len(gate.entered)]
        assert len(gate.entered) >= 3
        gate.let_go(b"0", b"2", b"3")
        await pair.client.expect(re.compile(rb"(~s \d 0 1 -\n\d){3}"))


async def test_the_request_of_the_very_first_bytes_is_served(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=echo, first=question(1, b"x")[:5]) as pair:
        await pair.client.send(question(1, b"x")[5:])
        await pair.client.expect(reply(1, b"x"))


async def test_a_peers_heartbeat_is_answered_in_its_turn(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=echo) as pair:
        await play(
            pair.client >> b"~h\n",
            pair.client << b"~H\n",
            pair.client >> question(1),
            pair.client << reply(1),
        )


async def test_random_traffic_gets_each_answer_to_its_request(autojump_clock: MockClock) -> None:
    random = Random(7)

    async def handle(request: Request) -> Response:
        assert isinstance(request.body, BytesBody)
        await trio.sleep(random.random())
        if random.random() < 0.2:
            request.stream.limit(trio.current_time())
            await trio.sleep_forever()
        return Response(OK, BytesBody(request.body.data))

    async with proxy_pair(LINES, handler=handle, max_streams=8) as pair:
        answered: dict[int, bytes] = {}
        codec = LINES.open(Role.CLIENT, DEFAULT_LIMITS)
        sent: Sequence[int] = range(300)

        async def send() -> None:
            for id_ in sent:
                await pair.client.send(question(id_, b"%d" % id_))
                if random.random() < 0.3:
                    await trio.sleep(random.random())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(answered) < len(sent):
                for frame in codec.receive(bytes(await pair.client.raw.receive_some())):
                    assert isinstance(frame, Head)
                    assert frame.stream_id not in answered
                    answered[frame.stream_id] = frame.data
        late = [id_ for id_, data in answered.items() if not data]
        assert all(data == b"%d" % id_ for id_, data in answered.items() if data)
        assert 20 < len(late) < 120
        assert pair.stats.downstream_rq_timeout == len(late)
        assert pair.stats.downstream_rq_total == 300
        assert pair.driver.streams == 0


# ---- failures


async def test_one_streams_failure_is_no_matter_of_the_others(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: Request) -> Response:
        assert isinstance(request.body, BytesBody)
        if request.body.data == b"bug":
            raise ZeroDivisionError
        if request.body.data == b"body":
            return Response(OK, Fed(b"half", failure=ZeroDivisionError()).ended())
        if request.body.data == b"broken":
            return Response(OK, Fed(failure=UpstreamReset("gone")).ended())
        await trio.sleep(1)
        return await echo(request)

    async with proxy_pair(LINES, handler=handle) as pair:
        names = (b"good", b"bug", b"body", b"broken", b"fine")
        await pair.client.send(b"".join(question(i, n) for i, n in enumerate(names)))
        for _ in range(3):
            await pair.client.expect(re.compile(rb"~s [123] (13|14) 0 -\n"))
        await pair.client.expect(re.compile(rb"(~s [04] 0 4 -\n(good|fine)){2}"))
        assert pair.stats.statuses == {Status.OK: 2, Status.INTERNAL: 2, Status.UNAVAILABLE: 1}
    assert "a filter or handler failed" in caplog.text
    assert "a body failed" in caplog.text


async def test_a_body_too_large_for_one_message_is_an_error_reply(
    autojump_clock: MockClock,
) -> None:
    async def large(_request: Request) -> Response:
        return Response(OK, Fed(bytes(600), bytes(600)).ended())

    limits = Limits(max_message_bytes=1000)
    async with proxy_pair(LINES, handler=large, limits=limits) as pair:
        await pair.client.send(question(1))
        await pair.client.expect(re.compile(rb"~s 1 [1-9]\d* 0 -\n"))


async def test_a_violation_is_followed_by_the_answers_owed_and_the_end(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a") + oneway(2, b"b") + b"GARBAGE\n" + question(3))
        await wait_all_tasks_blocked()
        assert gate.entered == [b"a", b"b"] or gate.entered == [b"b", b"a"]
        await trio.sleep(2)
        gate.let_go(b"a", b"b")
        await pair.client.expect(reply(1, b"a"))
        await pair.client.expect(END)
        await pair.ended.wait()
        assert pair.stats.downstream_cx_protocol_error == 1
        assert gate.cancelled == []


async def test_after_a_violation_input_is_read_for_a_while_so_that_answers_are_not_lost(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(LINES, handler=echo, timeouts=timeouts(linger=3)) as pair:
        await pair.client.send(question(1) + b"GARBAGE\n")
        await pair.client.expect(reply(1))
        await pair.client.expect(END)
        assert not pair.ended.is_set()
        started = trio.current_time()
        await pair.client.send(b"x" * 100_000)
        await pair.ended.wait()
        assert trio.current_time() - started == pytest.approx(3)


# ---- the client goes


@pytest.mark.parametrize("how", ["eof", "close"])
async def test_a_client_that_goes_cancels_its_streams_but_not_its_oneway_messages(
    how: str, autojump_clock: MockClock
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"two-way") + oneway(2, b"one-way"))
        await wait_all_tasks_blocked()
        started = trio.current_time()
        await (pair.client.send_eof() if how == "eof" else pair.client.aclose())
        await wait_all_tasks_blocked()
        assert gate.cancelled == [b"two-way"]
        assert trio.current_time() == started
        assert pair.stats.downstream_cx_destroy_remote == 1
        assert not pair.ended.is_set()
        gate.let_go(b"one-way")
        await pair.ended.wait()
        assert gate.cancelled == [b"two-way"]


async def test_a_client_that_dies_in_the_middle_of_a_message_is_gone_too(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a") + question(2, b"b")[:-1])
        await wait_all_tasks_blocked()
        await pair.client.aclose()
        await wait_all_tasks_blocked()
        assert gate.cancelled == [b"a"]


async def test_a_client_that_breaks_does_not_take_its_oneway_messages_along(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"two-way") + question(2, b"x") + oneway(3, b"one-way"))
        await wait_all_tasks_blocked()
        pair.stream.abort()
        gate.let_go(b"x")  # its answer finds the connection broken
        await wait_all_tasks_blocked()
        assert b"one-way" not in gate.cancelled
        gate.let_go(b"one-way")
        await pair.ended.wait()


async def test_a_client_that_goes_is_noticed_while_nobody_reads(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate, max_streams=2) as pair:
        await pair.client.send(question(1, b"a") + question(2, b"b"))
        await wait_all_tasks_blocked()
        started = trio.current_time()
        await pair.client.aclose()
        await pair.ended.wait()
        assert sorted(gate.cancelled) == [b"a", b"b"]
        assert trio.current_time() == started


async def test_a_client_that_does_not_read_stops_its_own_requests(
    autojump_clock: MockClock,
) -> None:
    asked = 0

    async def large(_request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(OK, BytesBody(bytes(64 * KIB)))

    async with (
        proxy_pair(LINES, handler=large, bounded=True, max_outbox_bytes=256 * KIB) as pair,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            for i in range(1000):
                await pair.client.send(question(i))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert 4 <= asked <= 10
        got = 0
        while got < 1000 * 64 * KIB:
            got += len(await pair.client.raw.receive_some())
        await wait_all_tasks_blocked()
        assert asked == 1000


async def test_a_client_that_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async def large(_request: Request) -> Response:
        return Response(OK, BytesBody(bytes(MIB)))

    limits = timeouts(write=15)
    async with proxy_pair(LINES, handler=large, bounded=True, timeouts=limits) as pair:
        await pair.client.send(question(1))
        started = trio.current_time()
        await pair.ended.wait()
        assert trio.current_time() - started == pytest.approx(15)
        assert pair.stats.downstream_cx_write_timeout == 1


# ---- drain and goodbye


async def test_draining_an_idle_connection_says_goodbye_and_closes_soon(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(LINES, handler=echo, timeouts=timeouts(linger=2)) as pair:
        await play(pair.client >> question(1), pair.client << reply(1))
        started = trio.current_time()
        pair.driver.drain()
        pair.driver.drain()
        await pair.client.expect(b"~g\n")
        assert trio.current_time() == started
        await pair.client.expect(END)
        assert trio.current_time() == started + 2
        await pair.ended.wait()


async def test_a_request_that_crosses_the_goodbye_is_served(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate, timeouts=timeouts(linger=2)) as pair:
        await wait_all_tasks_blocked()
        pair.driver.drain()
        await trio.sleep(1)
        await pair.client.send(question(1, b"a"))
        await trio.sleep(3)
        gate.let_go(b"a")
        await play(pair.client << b"~g\n", pair.client << reply(1, b"a"), pair.client << END)


async def test_draining_lets_streams_in_flight_finish(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a") + question(2, b"b"))
        await wait_all_tasks_blocked()
        pair.driver.drain()
        await pair.client.expect(b"~g\n")
        gate.let_go(b"a")
        await pair.client.expect(reply(1, b"a"))
        # Sent before the goodbye was read: served as well.
        await pair.client.send(question(3, b"c"))
        await wait_all_tasks_blocked()
        gate.let_go(b"b", b"c")
        await pair.client.expect(re.compile(rb"(~s \d 0 1 -\n[bc]){2}"))
        await pair.client.expect(END)
        assert gate.cancelled == []


@pytest.mark.parametrize("busy", [False, True])
async def test_a_drain_reads_on_while_a_client_takes_its_last_answer(
    busy: bool, autojump_clock: MockClock
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate, timeouts=timeouts(linger=3)) as pair:
        await pair.client.send(question(1, b"a"))
        await wait_all_tasks_blocked()
        pair.driver.drain()
        await pair.client.expect(b"~g\n")
        await trio.sleep(5)
        gate.let_go(b"a")
        await pair.client.expect(reply(1, b"a"))
        await pair.client.expect(END)
        # Closed now, bytes on their way to us would make the kernel reset what the client has yet to read.
        assert not pair.ended.is_set()
        started = trio.current_time()
        while busy and not pair.ended.is_set():
            await pair.client.send(b"credit, or whatever it still says")
            await trio.sleep(1)
        await pair.ended.wait()
        lasted = trio.current_time() - started
        assert lasted == pytest.approx(LONGEST_FAREWELL if busy else 3, abs=1.1)


async def test_a_drain_before_the_first_request_serves_what_has_come(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(LINES, handler=echo, first=question(1)) as pair:
        pair.driver.drain()
        await pair.client.expect(re.compile(rb"(?=.*~g\n)(?s:.*)~s 1 0 0 -\n", re.DOTALL))
        await pair.ended.wait()


async def test_a_slow_reader_gets_all_of_its_answers_before_a_drain_closes(
    autojump_clock: MockClock,
) -> None:
    async def large(_request: Request) -> Response:
        return Response(OK, BytesBody(bytes(MIB)))

    async with proxy_pair(LINES, handler=large, bounded=True) as pair:
        await pair.client.send(question(1))
        await wait_all_tasks_blocked()
        pair.driver.drain()
        size = 0
        while True:
            await trio.sleep(5)
            if not (got := await pair.client.raw.receive_some(64 * KIB)):
                break
            size += len(got)
        assert size >= MIB


async def test_close_soon_cancels_everything(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a") + oneway(2, b"b"))
        await wait_all_tasks_blocked()
        assert isinstance(pair.driver, Multiplexed)
        pair.driver.close_soon()
        await pair.ended.wait()
        assert sorted(gate.cancelled) == [b"a", b"b"]
        await pair.client.expect(END)


async def test_many_requests_of_one_read_take_turns_with_others(autojump_clock: MockClock) -> None:
    most = 0

    async def quick(_request: Request) -> Response:
        nonlocal most
        assert isinstance(pair.driver, Multiplexed)
        most = max(most, pair.driver.streams)
        return Response(OK, BytesBody())

    async with proxy_pair(LINES, handler=quick) as pair:
        assert isinstance(pair.driver, Multiplexed)
        await pair.client.send(b"".join(question(n) for n in range(1, 301)))
        await pair.client.expect(re.compile(rb"(~s \d+ 0 0 -\n){300}"))
        assert most <= 128


async def test_a_drain_between_requests_of_one_read_serves_them_all(
    autojump_clock: MockClock,
) -> None:
    async def draining(_request: Request) -> Response:
        assert isinstance(pair.driver, Multiplexed)
        pair.driver.drain()
        return Response(OK, BytesBody())

    async with proxy_pair(LINES, handler=draining, timeouts=timeouts(linger=0)) as pair:
        await pair.client.send(b"".join(question(n) for n in range(1, 151)))
        await pair.client.expect(re.compile(rb"((~s \d+ 0 0 -\n)|(~g\n)){151}"))
        await pair.client.expect(END)


HANGING_GET = b"\x82\x86\x84\x41\x01a"  # GET http://a/


async def _hang(_request: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


async def test_a_ping_each_second_goes_on_for_ever(autojump_clock: MockClock) -> None:
    timeouts = TimeoutsConfig(stream_idle=Duration(0.0))
    async with proxy_pair(HTTP2, handler=_hang, timeouts=timeouts) as pair:
        await pair.client.send(PREFACE + settings(()) + SETTINGS_ACK)
        await pair.client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, HANGING_GET))
        await wait_all_tasks_blocked()
        for number in range(3000):
            await trio.sleep(1.0)
            await pair.client.send(ping(number.to_bytes(8, "big")))
            await pair.client.expect(re.compile(b"(?s).*" + re.escape(number.to_bytes(8, "big"))))
        assert pair.chain.stats.downstream_rq_active == 1
        await pair.client.send(rst_stream(1, 8))
        await wait_all_tasks_blocked()


@pytest.mark.parametrize("waited", [0.4, 1.0, 2.0])
async def test_calls_given_up_while_the_upstream_hangs_cost_nobody_anything(
    waited: float, autojump_clock: MockClock
) -> None:
    async with proxy_pair(HTTP2, handler=_hang) as pair:
        await pair.client.send(PREFACE + settings(()) + SETTINGS_ACK)
        quiet = frame(HEADERS, END_HEADERS | END_STREAM, 1, HANGING_GET)
        await pair.client.send(quiet)
        for turn in range(12):
            ids = [3 + 2 * (50 * turn + n) for n in range(50)]
            heads = [frame(HEADERS, END_HEADERS | END_STREAM, n, HANGING_GET) for n in ids]
            await pair.client.send(b"".join(heads))
            await trio.sleep(waited)
            await pair.client.send(b"".join([rst_stream(n, 8) for n in ids]))
        await wait_all_tasks_blocked()
        assert pair.chain.stats.downstream_rq_active == 1
        assert pair.chain.stats.downstream_cx_protocol_error == 0


async def test_rapid_resets_still_end_the_connection(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP2, handler=_hang) as pair:
        await pair.client.send(PREFACE + settings(()) + SETTINGS_ACK)
        await trio.sleep(5.0)
        heads = [
            frame(HEADERS, END_HEADERS | END_STREAM, n, HANGING_GET) + rst_stream(n, 8)
            for n in range(1, 301, 2)
        ]
        await pair.client.send(b"".join(heads))
        await pair.ended.wait()
        assert pair.chain.stats.downstream_cx_limit == {"max_resets": 1}


async def test_streams_that_hold_much_are_answered_with_overload_and_then_the_connection_ends(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        driver = pair.driver
        assert isinstance(driver, Multiplexed)
        body = bytes(COUNTED)
        await pair.client.send(question(1, b"small") + question(2, body))
        await wait_all_tasks_blocked()
        assert driver.wire.facts.share.held == 2 * COUNTED
        driver.relieve()
        await pair.client.expect(b"~s 2 8 0 x-envoy-overloaded=true\n")
        assert driver.wire.facts.share.held == 0
        gate.let_go(b"small")
        await pair.client.expect(reply(1, b"small"))
        driver.relieve()
        await pair.client.expect(END)


async def test_half_a_message_is_counted_until_it_is_whole_or_the_connection_ends(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(LINES, handler=echo) as pair:
        driver = pair.driver
        assert isinstance(driver, Multiplexed)
        whole = question(1, bytes(3 * COUNTED))
        await pair.client.send(whole[: 2 * COUNTED])
        await wait_all_tasks_blocked()
        assert driver.wire.facts.share.held == 2 * COUNTED
        await pair.client.send(whole[2 * COUNTED :])
        await pair.client.expect(reply(1, bytes(3 * COUNTED)))
        assert driver.wire.facts.share.held == 0
        await pair.client.send(whole[: 2 * COUNTED])
        await wait_all_tasks_blocked()
        await pair.client.aclose()
        await pair.ended.wait()
        assert driver.wire.facts.share.held == 0


async def test_who_is_served_after_a_crime_hears_that_nobody_can_be_answered(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a") + question(2, b"b"))
        await wait_all_tasks_blocked()
        await pair.client.send(b"no line of this protocol\n")
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_cx_protocol_error == 1
        gone = Sink()
        gone.fail(trio.BrokenResourceError("write: Broken pipe"))
        assert isinstance(pair.driver, Multiplexed)
        pair.driver.wire.become(gone, pair.driver.wire.codec)
        gate.let_go(b"a")
        await wait_all_tasks_blocked()
        assert gate.cancelled == [b"b"]
        assert pair.stats.downstream_rq_active == 0
        assert pair.stats.downstream_cx_destroy_remote == 1
