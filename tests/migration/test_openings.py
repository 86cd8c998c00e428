"""An opening moves at every byte, once and many times, or stays after all: nobody on either side can tell."""

from __future__ import annotations

import re
import ssl
import struct
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.live import GET, PATIENCE, eventually, http_response, reset, upstream, web
from tests.migration.houses import WAYS, Houses, houses, send_in_pieces, total
from tests.proxy.test_opening import SILENT, silent
from tests.secure import NAME, context, tls
from tests.transport.tls.kit import SslPeer
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.dubbo.plugin import PLUGIN as DUBBO
from xproxy.codecs.http2.wire import PREFACE, settings
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Standing
from xproxy.proxy.opening import Opening
from xproxy.testing import END, Party, play
from xproxy.transport.proxy_protocol import V2_SIGNATURE
from xproxy.transport.tls.alerts import TlsError
from xproxy.transport.tls.stream import TlsStream

OK: Final = http_response(b"ok")
HEAD: Final = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
V1: Final = b"PROXY TCP4 198.51.100.7 198.51.100.8 1111 2222\r\n"
V2: Final = (
    V2_SIGNATURE
    + b"\x21\x11"
    + struct.pack("!H4s4sHH", 12, bytes((198, 51, 100, 7)), bytes((198, 51, 100, 8)), 1111, 2222)
)
FILTERS: Final = "    filters: [forwarded]\n"


async def answered(made: Houses, client: Party, up: object, *, claimed: bool = False) -> None:
    server = Party("upstream", await up.accept())  # type: ignore[attr-defined]  # an Upstream
    head = await server.expect(HEAD)
    assert (b"x-forwarded-for: 198.51.100.7\r\n" in head) == claimed
    await play(server >> OK, client << OK)
    assert total(made, "downstream_cx_total") == 1
    assert total(made, "downstream_cx_active") == 1
    assert total(made, "downstream_rq_total") == 1
    assert total(made, "downstream_rx_bytes_total") == len(GET)
    assert total(made, "downstream_cx_ended_early") == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("header", [b"", V1, V2], ids=["none", "v1", "v2"])
async def test_plaintext_byte_by_byte(header: bytes, times: int, way: str) -> None:
    listener = FILTERS + ("    proxy_protocol: {allow: [127.0.0.0/8]}\n" if header else "")
    async with upstream() as up, houses(web(up.port, listener=listener)) as made:
        client = await made.live.client()
        await send_in_pieces(made, client.stream, header + GET, 1, way, times)  # type: ignore[arg-type]  # a socket
        assert made.moments[-1].header == header
        assert (made.moves == 0) == (way == "thaw")
        await answered(made, client, up, claimed=bool(header))


RECOGNISED: Final = {
    "http2": PREFACE + settings(()),
    "bolt": BOLT.examples[0],
    "dubbo": DUBBO.examples[0],
    "thrift": THRIFT.examples[0],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RECOGNISED)
async def test_each_protocol_is_recognised_byte_by_byte(name: str, way: str) -> None:
    async with upstream() as up, houses(web(up.port)) as made:
        client = await made.live.connect()
        await send_in_pieces(made, client, RECOGNISED[name], 1, way)
        driver = made.connection.driver
        assert isinstance(driver, SerialDownstream | Multiplexed)
        assert driver.facts.protocol == name
        counted = [live.runtime.detections for live in made.lives]
        assert sum(sum((*c.recognised.values(), *c.guessed.values())) for c in counted) == 1
        assert made.moments


async def test_what_nobody_recognises_reaches_the_fallback_whole() -> None:
    async with upstream() as up, upstream() as raw:
        text = web(up.port, listener="    fallback: {cluster: raw}\n")
        text += f"  raw:\n    endpoints: [127.0.0.1:{raw.port}]\n"
        async with houses(text) as made:
            client = await made.live.connect()
            await send_in_pieces(made, client, b"GE\x00rest", 1, "both")
            assert made.moves
            await Party("raw", await raw.accept()).expect(b"GE\x00rest")


# ---- TLS


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_a_hello_in_pieces_and_what_comes_inside_byte_by_byte(version: str, way: str) -> None:
    header = V2
    listener = tls() + "    proxy_protocol: {allow: [127.0.0.0/8]}\n" + FILTERS
    async with upstream() as up, houses(web(up.port, listener=listener), 3) as made:
        transport = await made.live.connect()
        client = SslPeer(transport, context(low=version, high=version), server_name=NAME)
        with pytest.raises(ssl.SSLWantReadError):
            client.object.do_handshake()
        first = header + client.outgoing()
        await send_in_pieces(made, transport, first[:-7], 29, way)
        assert not made.was_inside_tls()
        await transport.send_all(first[-7:])
        await client.handshake()
        before = len(made.moments)
        # The end of the request is no part of it: by then its protocol is known.
        for at in range(len(GET)):
            sealed = client.seal(GET[at : at + 1])
            await send_in_pieces(made, transport, sealed, len(sealed) - 3, way)
        assert len(made.moments) > before
        assert made.was_inside_tls()
        assert made.moments[-1].header == header
        await answered(made, Party("tls client", client), up, claimed=True)
        assert total(made, "downstream_tls_handshakes") == 1
        assert sum(live.stats().downstream_tls_handshakes_active for live in made.lives) == 0


async def test_nobody_is_frozen_amid_a_handshake_and_whoever_seeks_hears_of_its_end() -> None:
    async with upstream() as up, houses(web(up.port, listener=tls())) as made:
        transport = await made.live.connect()
        client = SslPeer(transport, context(low="TLSv1_2", high="TLSv1_2"), server_name=NAME)
        with pytest.raises(ssl.SSLWantReadError):
            client.object.do_handshake()
        await transport.send_all(client.outgoing())
        with trio.fail_after(PATIENCE):
            await client.fill()
        await wait_all_tasks_blocked()
        connection = made.connection
        assert connection.movable is not None
        assert connection.movable.standing is Standing.BUSY
        found = trio.Event()
        frozen: list[Opening] = []
        standing: list[Standing] = []

        def freeze() -> bool:
            opening = connection.opening
            assert isinstance(opening, Opening)
            standing.append(opening.standing)
            made.moments.append(opening.freeze())
            standing.append(opening.standing)
            frozen.append(opening)
            found.set()
            return True

        connection.seek(freeze)
        await client.handshake()
        with trio.fail_after(PATIENCE):
            await found.wait()
        connection.seek(None)
        assert standing == [Standing.IDLE, Standing.NOT_NOW]
        assert made.moments[0].stream
        await client.send_all(GET)
        await wait_all_tasks_blocked()
        assert connection.driver is None, "it stands still"
        frozen[0].thaw()
        await answered(made, Party("tls client", client), up)


async def test_who_seeks_an_opening_is_asked_by_its_driver_later() -> None:
    async with upstream() as up, houses(web(up.port)) as made:
        client = await made.live.client()
        await client.send(GET[:1])
        assert await made.opening() is not None
        asked = 0

        def refuse() -> bool:
            nonlocal asked
            asked += 1
            return False

        connection = made.connection
        connection.seek(refuse)
        await client.send(GET[1:2])
        await eventually(lambda: asked > 0, "the opening asks")
        asked_before = asked
        await client.send(GET[2:])
        await answered(made, client, up)
        await eventually(lambda: asked > asked_before, "its driver asks")
        assert connection.opening is None


# ---- times


async def test_what_was_left_of_the_time_for_detection_is_left() -> None:
    async with upstream() as up, houses(web(up.port, timeouts="{detect: 60s}")) as made:
        client = await made.live.client()
        await client.send(GET[:1])
        opening = await made.opening()
        assert opening is not None
        moment = opening.freeze()
        assert 50 < moment.left < 60
        assert 0 <= moment.waited < 10
        assert moment.sock is not None
        sock = moment.sock.dup()
        opening.leave()
        active = made.lives[1].runtime.listeners["edge"]
        assert active.adopt(sock, 1, active.opening(attrs.evolve(moment, left=0.05, sock=None)))
        await client.expect(END)
        assert made.lives[1].stats().downstream_cx_unknown_protocol == 1


@pytest.mark.parametrize("secured", [False, True])
async def test_what_was_left_of_the_time_for_silence_is_left(secured: bool) -> None:
    async with upstream() as up, upstream() as raw:
        listener = SILENT.replace("500ms", "60s") + (tls("mode: strict") if secured else "")
        text = silent(up.port, raw.port, server_first=listener)
        text = text.replace("timeouts: {}", "timeouts: {detect: 100s}")
        async with houses(text) as made:
            transport = await made.live.connect()
            client: trio.abc.Stream = transport
            if secured:
                client = SslPeer(transport, context(), server_name=NAME)
                await client.handshake()
            opening = await made.opening()
            assert opening is not None
            moment = opening.freeze()
            assert 50 < moment.patience < 60
            opening.thaw()
            await wait_all_tasks_blocked()
            moment = opening.freeze()
            assert 50 < moment.patience < 60
            assert moment.sock is not None
            sock = moment.sock.dup()
            opening.leave()
            active = made.lives[1].runtime.listeners["edge"]
            given = attrs.evolve(moment, patience=0.05, sock=None)
            assert active.adopt(sock, 1, active.opening(given))
            server = Party("mail", await raw.accept())
            party = Party("client", client)
            await play(server >> b"220 hello\r\n", party << b"220 hello\r\n")


async def test_one_that_stands_still_has_no_time(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with upstream() as up, houses(web(up.port, timeouts="{detect: 500s}")) as made:
        client = await made.live.client()
        await client.send(GET[:1])
        opening = await made.opening()
        assert opening is not None
        opening.freeze()
        mock_clock.jump(1000)
        await wait_all_tasks_blocked(0.01)
        await client.send(GET[1:])
        opening.thaw()
        await answered(made, client, up)


# ---- the worst moments


@pytest.mark.parametrize("way", ["finish", "reset"])
@pytest.mark.parametrize("secured", [False, True])
async def test_a_client_that_leaves_one_that_stands_still_is_noticed_when_it_goes_on(
    secured: bool, way: str
) -> None:
    async with houses(web(1, listener=tls() if secured else "")) as made:
        transport = await made.live.connect()
        if secured:
            await SslPeer(transport, context(), server_name=NAME).handshake()
        opening = await made.opening()
        assert opening is not None
        opening.freeze()
        if way == "reset":
            reset(Party("client", transport))
        else:
            await transport.send_eof()
        await wait_all_tasks_blocked()
        assert made.live.stats().downstream_cx_active == 1
        opening.thaw()
        await made.live.settled()


async def test_a_client_that_leaves_while_it_moves_is_noticed_there() -> None:
    async with houses(web(1)) as made:
        transport = await made.live.connect()
        await transport.send_all(GET[:1])
        opening = await made.opening()
        assert opening is not None
        moment = opening.freeze()
        reset(Party("client", transport))
        assert moment.sock is not None
        sock = moment.sock.dup()
        opening.leave()
        active = made.lives[1].runtime.listeners["edge"]
        # What was reset has no peer any more, and cannot be watched: then it is closed at once.
        active.adopt(sock, 1, active.opening(attrs.evolve(moment, sock=None)))
        for live in made.lives:
            await live.settled()


async def test_nothing_ends_one_that_stands_still_and_a_drain_waits() -> None:
    timeouts = "{detect: 60s, linger: 50ms}"
    async with upstream() as up, houses(web(up.port, timeouts=timeouts)) as made:
        client = await made.live.client()
        await client.send(GET[:1])
        opening = await made.opening()
        assert opening is not None
        connection = made.connection
        opening.freeze()
        connection.relieve()
        assert connection.idle_since is None, "nobody would shed it"
        connection.drain(0.05)
        assert opening.standing is Standing.NEVER
        await wait_all_tasks_blocked(0.1)
        assert made.live.stats().downstream_cx_active == 1
        opening.thaw()
        await client.expect(END)
        await made.live.settled()


async def test_a_reload_while_it_stands_still_changes_what_serves_it() -> None:
    async with upstream() as first, upstream() as second, houses(web(first.port)) as made:
        client = await made.live.client()
        await client.send(GET[:1])
        opening = await made.opening()
        assert opening is not None
        opening.freeze()
        await made.live.reload(web(second.port))
        opening.thaw()
        await client.send(GET[1:])
        await answered(made, client, second)


async def test_a_process_that_ends_while_it_stands_still_closes_its_copy() -> None:
    async with houses(web(1)) as made:
        client = await made.live.client()
        await client.send(GET[:1])
        opening = await made.opening()
        assert opening is not None
        moment = opening.freeze()
        assert moment.sock is not None
        kept = moment.sock.dup()
        made.live.runtime.listeners["edge"].cut()
        await eventually(lambda: made.live.stats().downstream_cx_active == 0, "it was cut off")
        with kept:
            kept.setblocking(False)
            await client.send(GET[1:])
            await wait_all_tasks_blocked()
            assert kept.recv(100) == GET[1:], "the other copy is as it was"


async def test_a_session_that_cannot_be_written_down_stays() -> None:
    async with upstream() as up, houses(web(up.port, listener=tls())) as made:
        client = SslPeer(await made.live.connect(), context(), server_name=NAME)
        await client.handshake()
        opening = await made.opening()
        assert opening is not None
        stream = opening.connection.stream
        assert isinstance(stream, TlsStream)
        stream._failure = trio.BrokenResourceError("as if it had ended")
        with pytest.raises(TlsError, match="cannot be moved"):
            opening.freeze()
        stream._failure = None
        assert opening.standing is Standing.IDLE
        await client.send_all(GET)
        await answered(made, Party("tls client", client), up)
