"""The new process takes: what it refuses, what it is told, and what becomes of it when the old one ends."""

from __future__ import annotations

import re
import socket
import struct
import time

import attrs
import pytest
import trio

from tests.live import GET, PATIENCE, Live, eventually, http_response, running, upstream, web
from tests.migration.takeover import Other, successor, taking_from
from xproxy.migration.messages import Carry, Done, Hello, Offer, Refused, Taken, Withdraw, pack
from xproxy.migration.movable import MovableDownstream
from xproxy.migration.packing import Upstream
from xproxy.migration.packing import pack as pack_state
from xproxy.proxy.adopting import Codecs
from xproxy.testing import END, Party, play
from xproxy.upstream.moving import settings_of

HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK = http_response(b"ok")


@attrs.define(eq=False)
class Frozen:
    """A client's connection that another proxy had, and that stands still."""

    client: Party
    state: bytes
    sock: socket.socket
    item: MovableDownstream


async def frozen(old: Live) -> Frozen:
    client = await old.client()
    await client.send(GET[:5])
    active = old.runtime.listeners["edge"]
    await eventually(lambda: bool(old.stats().downstream_rx_bytes_total), "it is here")
    [connection] = active.connections.values()
    item = MovableDownstream(active, connection, Codecs(old.registry))
    assert connection.driver is not None
    state, [sock] = item.freeze()
    return Frozen(client, state, sock, item)


async def offer(other: Other, number: int, of: Frozen) -> None:
    await other.say(Offer(number=number, cut=0.0), of.sock.fileno(), state=of.state)


async def test_a_connection_goes_on_and_its_time_has_passed() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        one = await frozen(old)
        async with taking_from(new) as (other, found):
            await other.until_taking()
            assert next(new.runtime.ids) == 42
            await offer(other, 1, one)
            assert await other.hear(Taken) == Taken(numbers=(1,))
            one.item.leave()
            # It was cut long ago, by this clock: nothing is left of the time for its head.
            await one.client.expect(re.compile(rb"HTTP/1.1 408 .*", re.DOTALL))
            await other.say(Done())
        assert found.taken is not None
        assert (found.taken.serve, found.taken.why) == (True, "")
        assert dict(found.taken.tally.moved) == {"http1": 1}


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("torn", "not as many"),
        ("state", "nothing that was written"),
        ("no state", "nothing that was written"),
        ("no socket", "did not come"),
        ("a socket too many", "2 came"),
        ("no such listener", "no listener"),
        ("a file", "no socket"),
    ],
)
async def test_what_cannot_go_on_is_refused_and_nothing_leaks(what: str, why: str) -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        one = await frozen(old)
        async with taking_from(new) as (other, found):
            await other.until_taking()
            numbers = [one.sock.fileno()]
            state: bytes | None = one.state
            if what == "state":
                state = b"\xc1" * 100
            elif what == "no state":
                state = None
            elif what == "no socket":
                numbers = []
            elif what == "a socket too many":
                numbers *= 2
            elif what == "no such listener":
                del new.runtime.listeners["edge"]
            elif what == "a file":
                with open("/proc/self/status") as file:  # noqa: ASYNC230  # it is read by nobody
                    await other.say(Offer(number=1, cut=0.0), file.fileno(), state=state)
            if what == "torn":
                message = pack(Offer(number=1, cut=0.0))
                header = struct.pack("!BBHI", 2, 3, len(message), 0)
                other.channel._sock.sendmsg([header, message])
            elif what != "a file":
                await other.say(Offer(number=1, cut=0.0), *numbers, state=state)
            refused = await other.hear(Refused)
            assert why in refused.why
            assert refused.for_ever is (what != "torn")
            await other.say(Done())
        assert found.taken is not None
        assert found.taken.serve
        one.item.thaw()
        await one.client.send(GET[5:])
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, one.client << OK)


@pytest.mark.parametrize("how", ["done", "end", "withdraw", "nonsense"])
async def test_what_was_taken_is_ours_however_it_ends(how: str) -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        one = await frozen(old)
        async with taking_from(new) as (other, found):
            await other.until_taking()
            await other.say(
                Offer(number=1, cut=time.monotonic()), one.sock.fileno(), state=one.state
            )
            await other.hear(Taken)
            one.item.leave()
            if how == "done":
                await other.say(Done())
            elif how == "withdraw":
                await other.say(Withdraw(why="a whim"))
            elif how == "nonsense":
                await other.channel.send(b"nonsense", within=PATIENCE)
        assert found.taken is not None
        assert found.taken.serve is (how in ("done", "end"))
        await one.client.send(GET[5:])
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK)
        if found.taken.serve:
            await play(one.client << OK)
        else:
            # It ends when what it has taken has, with a word to each.
            await play(one.client << re.compile(rb".*Connection: close.*ok", re.DOTALL))
            await one.client.expect(END)
            await eventually(new.runtime.ended.is_set, "it has ended")


@pytest.mark.parametrize("step", ["hello", "ready"])
async def test_an_old_process_that_dies_early_is_followed(step: str) -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        async with taking_from(new) as (other, found):
            await other.hear(Hello)
            if step == "ready":
                await other.say(Hello(versions=(1,), software="a test"))
                await other.say(Carry(kind="", name="", version=0, last=True))
        assert found.taken is not None
        assert found.taken.serve
        assert new.runtime.accepting.is_set()


async def test_a_fault_of_a_codec_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        one = await frozen(old)

        def restore(*_: object) -> object:
            raise KeyError("a fault")

        async with taking_from(new) as (other, found):
            await other.until_taking()
            monkeypatch.setattr(type(new.registry.codec("http1")), "restore", restore)
            await offer(other, 1, one)
            refused = await other.hear(Refused)
            assert (refused.why, refused.for_ever) == ("KeyError: 'a fault'", True)
            await other.say(Done())
        assert found.taken is not None
        assert found.taken.serve
        assert not new.runtime.listeners["edge"].connections
        one.item.thaw()
        await one.client.send(GET[5:])
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, one.client << OK)


async def test_what_was_left_of_an_upstream_connections_time_has_passed() -> None:
    async with upstream() as up:
        text = web(up.port, codec="http2")
        async with running(text) as old, successor(text, old) as new:
            client = await old.client()
            await client.send(GET)
            server = await up.accept()
            # SETTINGS and an answer; what the client of it has set is not acknowledged.
            settings, answer = b"\0\0\0\4\0\0\0\0\0", b"\0\0\1\1\5\0\0\0\1\x88"
            await server.send_all(settings + answer)
            await client.expect(re.compile(rb"HTTP/1.1 200 OK\r\n.*", re.DOTALL))
            await old.settled(clients=1, upstreams=1)
            [given] = old.cluster().give()
            moment = given.handed.moment
            assert 0 < moment.patience < 3600
            # As long ago as it can be: a machine that has just started has no hour behind it.
            past = 0.9 * time.monotonic()
            handed = attrs.evolve(given.handed, moment=attrs.evolve(moment, patience=past))
            state, [sock] = pack_state(
                Upstream(
                    cluster="web",
                    address=given.endpoint.address,
                    settings=settings_of(old.cluster().config),
                    handed=handed,
                )
            )
            async with taking_from(new) as (other, _found):
                await other.until_taking()
                cut = time.monotonic() - past
                await other.say(Offer(number=1, cut=cut), sock.fileno(), state=state)
                assert await other.hear(Taken) == Taken(numbers=(1,))
                given.leave()
                with trio.fail_after(PATIENCE):
                    while await server.receive_some(65536):
                        pass  # until it has waited enough
                await other.say(Done())
