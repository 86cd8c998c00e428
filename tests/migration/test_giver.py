"""The old process gives: what moves, what stays, and what its clients notice, which is nothing."""

from __future__ import annotations

import contextlib
import re
import struct

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.http2_peer import Http2Peer
from tests.live import (
    GET,
    PATIENCE,
    eventually,
    hang_up,
    running,
    upstream,
    web,
)
from tests.migration.moved import HEAD, OK, exchange, first, gone, moved
from tests.migration.takeover import NEW, QUICK, Takeover, giving_to, successor, take_over
from tests.secure import context, party, tls
from tests.upstream.test_moving import Numbered
from xproxy.admin.pages import upgrade
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.migration.giving import STALL
from xproxy.migration.messages import (
    Carry,
    Done,
    Hello,
    Offer,
    Ready,
    Refused,
    Settled,
    StateVersions,
    Stopped,
    Taken,
    Withdraw,
)
from xproxy.migration.pace import Pace
from xproxy.testing import BROKEN, END, Party, play


async def test_idle_connections_go_on_in_the_new_proxy() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        clients = [client, *[await old.client(f"client {number}") for number in range(19)]]
        for client in clients:
            await exchange(client, server)
        ids = set(old.runtime.listeners["edge"].connections)
        found = await take_over(old, new)
        assert gone(found)
        assert moved(found) == {"http1": 20, "upstream http1": 1}
        assert found.given is not None
        assert len(found.given.tally.pauses) == 21
        assert set(new.runtime.listeners["edge"].connections) == ids
        assert next(new.runtime.ids) == max(ids) + 1
        await eventually(old.runtime.ended.is_set, "the old one has ended")
        for client in clients:
            await exchange(client, server)
        assert up.accepted == 1
        # Counters go on: those of the old one are part of them, each once.
        numbers = new.runtime.metrics.shown(("listener", "edge"))
        assert numbers["downstream_cx_total"] == 20
        assert numbers["downstream_rq_total"] == 41
        for client in clients:
            await hang_up(client)
        await new.settled()


async def test_the_new_one_shows_what_was_moved() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        assert gone(await take_over(old, new))
        await exchange(client, server)
        found = upgrade(new.runtime).body.decode().splitlines()
        assert re.fullmatch(r"stage: serving; the last takeover \(xproxy .*\) took .* s", found[0])
        assert found[1:3] == [
            "takeovers: 1, withdrawn: 0",
            "older processes with something left: 0",
        ]
        rows = [line.split() for line in found]
        assert ["http1", "1", "0", "0", "1"] in rows
        assert ["upstream", "http1", "1", "0", "0", "1"] in rows
        assert any(line.startswith("pauses: count=2 ") for line in found)
        assert [line for line in found if "failed" in line or "not carried" in line] == []


async def test_what_was_given_up_is_counted_and_the_next_is_told_everything() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        async with giving_to(old) as (other, _found):
            await other.until_giving()
            await other.hear(Offer)
            await other.say(Withdraw(why="another one comes"))
            await other.end()
        found = upgrade(old.runtime).body.decode().splitlines()
        assert found[0].endswith("was given up: the new process gave up: another one comes")
        assert found[1] == "takeovers: 0, withdrawn: 1"
        async with successor(web(up.port), old) as new:
            await exchange(client, server)
            assert gone(await take_over(old, new))
            await exchange(client, server)
            numbers = new.runtime.metrics.shown(("listener", "edge"))
            assert (numbers["downstream_cx_total"], numbers["downstream_rq_total"]) == (1, 3)
            assert new.runtime.metrics.shown(("takeover", ""))["withdrawn"] == 1


async def test_half_a_head_goes_on() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client = await old.client()
        await client.send(GET[:7])
        await eventually(lambda: old.stats().downstream_rx_bytes_total == 7, "it is here")
        found = await take_over(old, new)
        assert gone(found)
        await client.send(GET[7:])
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_tls_goes_on(version: str) -> None:
    async with (
        upstream() as up,
        running(web(up.port, listener=tls())) as old,
        successor(web(up.port, listener=tls()), old) as new,
    ):
        client = await party(old, context(low=version, high=version))
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        found = await take_over(old, new)
        assert gone(found)
        assert moved(found) == {"http1": 1, "upstream http1": 1}
        await exchange(client, server)
        [connection] = new.runtime.listeners["edge"].connections.values()
        assert connection.terms is not None
        facts = connection.terms.facts
        assert (facts.tls, facts.tls_version) == (True, version.replace("_", "."))


async def test_http2_goes_on() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        peer = Http2Peer(await old.connect(), client=True)
        numbers = [await peer.ask()]
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK)
        await peer.whole(numbers[0])
        found = await take_over(old, new)
        assert gone(found)
        assert moved(found) == {"http2": 1, "upstream http1": 1}
        numbers.append(await peer.ask())
        await play(server << HEAD, server >> OK)
        assert (await peer.whole(numbers[1])).body == b"ok"


async def test_what_is_busy_moves_afterwards() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        async with trio.open_nursery() as nursery:
            found: list[Takeover] = []

            async def run() -> None:
                found.append(await take_over(old, new))

            nursery.start_soon(run)
            await eventually(lambda: new.runtime.accepting.is_set(), "the new one accepts")
            fresh = await new.client("fresh")
            await fresh.send(GET)
            other = Party("upstream", await up.accept())
            await play(other << HEAD, other >> OK, fresh << OK)
            assert not found
            await play(server >> OK, client << OK)
        assert gone(found[0])
        assert moved(found[0]) == {"http1": 1, "upstream http1": 1}
        await exchange(client, server)


async def test_a_listener_that_is_gone_keeps_its_connections_to_their_end() -> None:
    async with upstream() as up:
        text = web(up.port, timeouts="{linger: 50ms}")
        without = text.replace("name: edge", "name: elsewhere")
        async with running(text) as old, successor(without, old) as new:
            client, _ = await first(old, up)
            found = await take_over(old, new)
            assert gone(found)
            assert found.given is not None
            assert dict(found.given.tally.refused) == {"http1: there is no listener edge": 1}
            await client.expect(END)


async def test_another_cluster_takes_no_upstream_connections() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        other = web(up.port, limits="{max_headers: 7}")
        async with successor(other, old) as new:
            client, _ = await first(old, up)
            found = await take_over(old, new)
            assert gone(found)
            assert found.given is not None
            refused = {"upstream http1: cluster web has other settings": 1}
            assert dict(found.given.tally.refused) == refused
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await play(server << HEAD, server >> OK, client << OK)


async def test_what_a_client_was_told_holds_after_a_move() -> None:
    large = "    codecs: [{name: http2, frame_bytes: 64KiB}, auto]\n    limits: {max_headers: 50}\n"
    async with upstream() as up:
        told = web(up.port, listener=large)
        async with running(told) as old, successor(web(up.port), old) as new:
            peer = Http2Peer(await old.connect(), client=True)
            number = await peer.ask()
            server = Party("upstream", await up.accept())
            await play(server << HEAD, server >> OK)
            await peer.whole(number)
            before = next(iter(old.runtime.listeners["edge"].connections.values())).terms
            found = await take_over(old, new)
            assert gone(found)
            after = next(iter(new.runtime.listeners["edge"].connections.values())).terms
            assert before is not None
            assert after is not None
            assert after.limits == before.limits
            assert after.limits.max_headers == 50
            assert after.plugin == before.plugin


async def test_what_is_refused_for_now_is_offered_again() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        async with giving_to(old) as (other, _found):
            await other.until_giving()
            offer = await other.hear(Offer)
            await other.say(Refused(number=offer.number, why="full", for_ever=False))
            again = await other.hear(Offer)
            assert again.number > offer.number
            await other.say(Withdraw(why="enough"))
        await exchange(client, server)


@pytest.mark.parametrize("how", ["withdraw", "end", "nonsense", "out of turn"])
@pytest.mark.parametrize("step", ["hello", "preparing", "giving", "offered", "taken"])
async def test_whatever_happens_what_was_not_taken_goes_on(step: str, how: str) -> None:
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        second = await old.client("second")
        await exchange(second, server)
        async with giving_to(old) as (other, found):
            if step == "hello":
                await other.hear(Hello)
            elif step == "preparing":
                await other.hear(Hello)
                await other.say(Hello(versions=(1,), software="a test"))
            else:
                await other.until_giving()
            if step in ("offered", "taken"):
                offer = await other.hear(Offer)
            if step == "taken":
                await other.say(Taken(numbers=(offer.number,)))
            if how == "withdraw":
                await other.say(Withdraw(why="a whim"))
            elif how == "nonsense":
                await other.channel.send(b"nonsense", within=PATIENCE)
            elif how == "out of turn":
                await other.say(Done())
            if how != "end":
                await other.end()
        assert found.given is not None
        assert not found.given.gone
        assert found.given.why
        left = [client, second]
        if step == "taken":
            # It was the other one's, which has closed it.
            await client.expect(END)
            left = [second]
        for one in left:
            await one.send(GET)
            await play(server << HEAD, server >> OK, one << OK)
        fresh = await old.client("fresh")
        await exchange(fresh, server)


async def test_who_accepts_nobody_is_withdrawn_from() -> None:
    pace = Pace(canary=0.05, canaries=1)
    async with upstream() as up, running(web(up.port)) as old:
        await first(old, up)
        async with giving_to(old, pace=pace) as (other, found):
            await other.hear(Hello)
            await other.say(Hello(versions=(1,), software="a test"))
            while not (await other.hear(Carry)).last:
                pass
            await other.say(Ready())
            await other.hear(Stopped)
            offer = await other.hear(Offer)
            await other.say(Taken(numbers=(offer.number,)))
            await other.hear(Withdraw)
        assert found.given is not None
        assert "does not accept" in found.given.why


async def test_one_that_was_stopped_itself_hears_first_what_was_said_meanwhile(
    mock_clock: MockClock,
) -> None:
    mock_clock.rate = 1.0
    async with upstream() as up, running(web(up.port)) as old:
        await first(old, up)
        async with giving_to(old, pace=Pace(canary=0.0)) as (other, found):
            await other.until_giving()
            offer = await other.hear(Offer)
            await wait_all_tasks_blocked()
            # SIGSTOP and, much later, SIGCONT: its timer is over before it looks for the answer.
            mock_clock.jump(2 * STALL)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            await other.say(Taken(numbers=(offer.number,)))
            upstreams = await other.hear(Offer)
            await other.say(Taken(numbers=(upstreams.number,)))
            await other.hear(Done)
        assert found.given is not None
        assert (found.given.gone, found.given.why) == (True, "")


async def test_patience_has_an_end() -> None:
    pace = Pace(patience=0.2, canary=0.0)
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        found = await take_over(old, new, pace=pace)
        assert gone(found)
        assert found.given is not None
        assert dict(found.given.tally.left) == {"http1: cut off (takeover.patience)": 1}
        await client.expect(BROKEN)


async def test_broken_off_it_withdraws() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        with trio.CancelScope() as scope:
            async with giving_to(old) as (other, _found):
                await other.until_giving()
                await other.hear(Offer)
                scope.cancel()
        assert scope.cancelled_caught
        await exchange(client, server)
        assert old.runtime.accepting.is_set()


async def test_a_client_that_never_pauses_moves_between_two_of_its_requests() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        await client.send(GET * 400)
        served = 0

        async def serve(stream: Party) -> None:
            nonlocal served
            with contextlib.suppress(AssertionError, trio.BrokenResourceError):
                while True:
                    await play(stream << HEAD, stream >> OK)
                    served += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, server)

            async def serve_more() -> None:
                nursery.start_soon(serve, Party("more", await up.accept()))

            nursery.start_soon(serve_more)
            found = await take_over(old, new)
            assert gone(found)
            assert served < 400
            await client.expect(OK * 400)
            nursery.cancel_scope.cancel()


async def test_a_client_that_has_said_nothing_yet_moves() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, half = await old.client("silent"), await old.client("half")
        await half.send(b"G")
        await eventually(lambda: old.stats().downstream_cx_active == 2, "accepted")
        found = await take_over(old, new)
        assert gone(found)
        assert moved(found) == {"opening": 2}
        await half.send(GET[1:])
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, half << OK)
        await exchange(client, server)


async def test_streams_whose_connection_has_gone_are_reset_when_patience_ends() -> None:
    pace = Pace(patience=1.5, canary=0.0)
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        peer = Http2Peer(await old.connect(), client=True)
        stuck = await peer.ask()
        await play(Party("upstream", await up.accept()) << HEAD)
        found = await take_over(old, new, pace=pace)
        assert gone(found)
        assert found.given is not None
        assert dict(found.given.tally.left) == {"http2 stream: cut off (takeover.patience)": 1}
        assert any(one.get("serving") == {"http2": 1} for one in found.reports)
        lost = await peer.whole(stuck)
        assert lost[":status"] == "503"
        assert new.stats().downstream_rq_link_lost == {"http2": 1}
        later = await peer.ask()
        await play((up_ := Party("upstream", await up.accept())) << HEAD, up_ >> OK)
        assert (await peer.whole(later)).body == b"ok"


async def test_what_is_bound_to_a_client_goes_with_it() -> None:
    async with upstream() as up:
        text = web(up.port, connections="bound")
        async with running(text) as old, successor(text, old) as new:
            client, server = await first(old, up)
            second, other = await first(old, up, "second")
            found = await take_over(old, new)
            assert gone(found)
            assert moved(found) == {"http1": 2}
            await exchange(client, server)
            await exchange(second, other)
            assert up.accepted == 2
            await hang_up(client)
            await server.expect(END)
            await hang_up(second)
            await new.settled(upstreams=0)


async def test_servers_that_call_their_clients_go_with_them() -> None:
    numbers = Numbered()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, numbers)
        text = web(up.port, codec="http2", connections="bound")
        async with running(text) as old, successor(text, old) as new:
            client = await old.client()
            await play(client >> GET, client << re.compile(rb".*<1>", re.DOTALL))
            found = await take_over(old, new)
            assert gone(found)
            assert moved(found) == {"http1": 1}
            await play(client >> GET, client << re.compile(rb".*<2>", re.DOTALL))
            assert numbers.streams == [[1, 3]]
        nursery.cancel_scope.cancel()


async def test_what_is_bound_and_refused_goes_on_in_the_old_one() -> None:
    async with upstream() as up:
        text = web(up.port, timeouts="{linger: 50ms}", connections="bound")
        async with running(text) as old:
            other = web(up.port, connections="bound", limits="{max_headers: 7}")
            async with successor(other, old) as new:
                client, server = await first(old, up)
                await client.send(GET[:7])
                await wait_all_tasks_blocked(0.01)
                found: list[Takeover] = []

                async def run() -> None:
                    found.append(await take_over(old, new))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run)
                    await eventually(lambda: new.runtime.accepting.is_set(), "it accepts")
                    await client.send(GET[7:])
                    await play(server << HEAD, server >> OK)
                    await client.expect(re.compile(rb".*Connection: close.*ok", re.DOTALL))
                assert gone(found[0])
                assert found[0].given is not None
                refused = {"http1: cluster web has other settings": 1}
                assert dict(found[0].given.tally.refused) == refused


async def test_a_fault_of_a_codec_keeps_its_own_connection_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        await exchange(client, server)
        other = Http2Peer(await old.connect(), client=True)
        number = await other.ask()
        await play(server << HEAD, server >> OK)
        await other.whole(number)

        def snapshot(_self: object) -> bytes:
            raise KeyError("a fault")

        connections = old.runtime.listeners["edge"].connections.values()
        [broken] = [one for one in connections if one.terms and one.terms.plugin.name == "http2"]
        driver = broken.driver
        assert isinstance(driver, Multiplexed)
        monkeypatch.setattr(type(driver.wire.codec), "snapshot", snapshot)
        found = await take_over(old, new)
        assert gone(found)
        assert moved(found) == {"http1": 1, "upstream http1": 1}
        assert found.given is not None
        assert dict(found.given.tally.refused) == {"http2: KeyError: 'a fault'": 1}
        assert [
            record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"
        ] == [True]
        await exchange(client, server)


def call(seqid: int, *, kind: int = 1) -> bytes:
    """Return a framed Thrift message without arguments."""
    body = struct.pack(">IIcIB", 0x80010000 | kind, 1, b"m", seqid, 0)
    return struct.pack(">I", len(body)) + body


async def test_connections_of_a_kind_go_to_that_kind() -> None:
    async with upstream() as up:
        text = web(up.port, codec="{name: thrift}")
        async with running(text) as old, successor(text, old) as new:
            client = await old.client()
            await client.send(call(1))
            server = Party("upstream", await up.accept())
            asked = re.compile(rb".{17}\x00", re.DOTALL)
            await play(server << asked, server >> call(1, kind=2), client << call(1, kind=2))
            found = await take_over(old, new)
            assert gone(found)
            assert found.given is not None
            assert dict(found.given.tally.refused) == {}
            assert moved(found) == {"thrift": 1, "upstream thrift": 1}
            await play(client >> call(2), server << asked)
            await play(server >> call(2, kind=2), client << call(2, kind=2))
            assert up.accepted == 1


async def test_no_rest_is_taken_when_no_client_is_left() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        ends: list[tuple[Party, Party]] = []
        for number in range(12):
            client = await old.client(f"client {number}")
            await client.send(GET)
            ends.append((client, Party("upstream", await up.accept())))
        for client, server in ends:
            await play(server << HEAD, server >> OK, client << OK)
        for client, _ in ends[1:]:
            await hang_up(client)
        await old.settled(clients=1, upstreams=12)
        # It would rest for minutes.
        found = await take_over(old, new, pace=attrs.evolve(QUICK, rest=1e7))
        assert gone(found)
        assert moved(found) == {"http1": 1, "upstream http1": 12}


async def test_it_has_been_given_when_nothing_waits_that_could_go() -> None:
    async with upstream() as up:
        text = web(up.port)
        async with running(text) as old, successor(text, old) as new:
            peer = Http2Peer(await old.connect(), client=True)
            await peer.flush()
            asked = await peer.ask()
            server = Party("upstream", await up.accept())
            await server.expect(HEAD)
            found = Takeover()

            async def run() -> None:
                await take_over(old, new, into=found)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await eventually(
                    lambda: any(one["step"] == "given" for one in found.reports), "it is given"
                )
                [given] = [one for one in found.reports if one["step"] == "given"]
                assert given["moved"] == {"http2": 1}
                await server.send(OK)
                assert (await peer.whole(asked)).body == b"ok"
            assert gone(found)


async def test_what_the_new_one_could_not_read_is_not_offered_and_ends_here() -> None:
    async with upstream() as up, running(web(up.port, timeouts="{linger: 50ms}")) as old:
        client, _server = await first(old, up)
        await old.client("silent")
        states = (StateVersions(name="http1", reads=(1, 2)),)
        async with giving_to(old) as (other, found):
            await other.until_giving(attrs.evolve(NEW, states=states))
            offer = await other.hear(Offer)  # of what has not spoken yet
            await other.say(Taken(numbers=(offer.number,)))
            await client.expect(END)
            await other.hear(Settled)
            await other.hear(Done)
        why = "http1 state 3 is not read by the new one (reads 1-2)"
        assert found.given is not None
        assert dict(found.given.tally.refused) == {f"http1: {why}": 1, f"upstream http1: {why}": 1}
        assert moved(found) == {"opening": 1}


async def test_who_lacks_descriptors_gets_nothing() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        async with giving_to(old) as (other, found):
            await other.hear(Hello)
            await other.say(attrs.evolve(NEW, descriptors=100, used=99))
            await other.hear(Withdraw)
            await other.end()
        why = "the new process lacks descriptors: has room for 1, 2 are to come"
        assert found.given is not None
        assert (found.given.gone, found.given.why) == (False, why)
        assert [one["step"] for one in found.reports] == ["withdrawn"]
        assert old.runtime.accepting.is_set()
        await exchange(client, server)
