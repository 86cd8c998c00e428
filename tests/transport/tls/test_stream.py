"""What TLS adds to the contract of ``ByteStream`` (``tests/transport/test_stream.py``), and moving a session."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.migration.own_peer import OwnPeer
from tests.transport.tls.kit import (
    NAME,
    SUITES,
    SUITES12,
    SUITES13,
    SslPeer,
    authority,
    client_context,
    connection,
    movable_pair,
    served,
    server_context,
    server_tls,
    tls_pair,
)
from tests.transport.tls.test_aead import pair
from tests.transport.tls.test_aead import peer as writer_of
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.wire import SerialWire
from xproxy.model.frames import Data, Head
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, Target
from xproxy.model.traits import Role
from xproxy.transport.poller import PolledSocket
from xproxy.transport.stream import write_all
from xproxy.transport.tls.alerts import TlsError
from xproxy.transport.tls.client import ClientTls, connect
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.keys import TLS12
from xproxy.transport.tls.records import APPLICATION_DATA, HANDSHAKE
from xproxy.transport.tls.server import accept
from xproxy.transport.tls.state import load
from xproxy.transport.tls.stream import MAX_BACKLOG_BYTES, TlsStream, Truncated, resume

BIG = bytes(range(256)) * 1024


def unsent(stream: TlsStream) -> int:
    """Return how many bytes of ciphertext the stream below has not taken."""
    return len(load(stream.export()).backlog)


async def read_exactly(stream: TlsStream, count: int) -> bytes:
    got = b""
    while len(got) < count:
        piece = await stream.read()
        assert piece
        got += piece
    return got


async def hear(peer: SslPeer, count: int) -> bytes:
    got = b""
    while len(got) < count:
        piece = await peer.receive_some()
        assert piece
        got += piece
    return got


async def talk(stream: TlsStream, peer: SslPeer, rounds: int = 3, size: int = 100) -> None:
    """Let both say something of their own, several times; the large one in several records."""
    for number in range(rounds):
        question, answer = b"%d?" % number * size, b"%d!" % number * size
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, question)
            assert await read_exactly(stream, len(question)) == question
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all, stream, answer)
            assert await hear(peer, len(answer)) == answer


@contextlib.asynccontextmanager
async def upstream_pair(
    suite: str | None = None,
) -> AsyncIterator[tuple[TlsStream, SslPeer, PolledSocket]]:
    """Give a stream that is a client, its server, and the stream below."""
    async with connection() as pair:
        peer = SslPeer(pair.socket, server_context(suite))
        made: list[TlsStream] = []

        async def ours() -> None:
            made.append(await connect(pair.under, ClientTls(ca=str(authority().ca)), NAME))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours)
            nursery.start_soon(peer.handshake)
        yield made[0], peer, pair.under


KINDS = pytest.mark.parametrize("resumed", [False, True], ids=["openssl", "aead"])


# ---- the end


@KINDS
async def test_an_end_without_close_notify_is_an_error(resumed: bool) -> None:
    async with tls_pair(resumed=resumed) as (stream, peer):
        await peer.send_all(b"half an answer")
        await peer.transport.send_eof()
        await wait_all_tasks_blocked(0.001)
        assert await stream.read() == b"half an answer"
        for _ in range(2):
            with pytest.raises(Truncated):
                await stream.read()
        assert stream.pending
        assert stream.hung_up


@pytest.mark.parametrize("said", [False, True], ids=["cut", "said"])
async def test_a_body_that_ends_with_the_connection_is_whole_only_if_the_peer_says_so(
    said: bool,
) -> None:
    async with upstream_pair() as (stream, peer, _):
        side = SerialWire(stream, HTTP1.open(Role.CLIENT, Limits()))
        head = RequestHead(service="edge.test", method="GET", extra=Target(path="/"))
        side.codec.send(Head(1, head, end=True))
        await peer.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        assert isinstance(await side.pull(), Head)
        await peer.send_all(b"half or whole")
        assert await side.pull() == Data(1, b"half or whole")
        if said:
            await peer.send_eof()
            assert await side.pull() == Data(1, b"", end=True)
        else:
            await peer.transport.send_eof()
            with pytest.raises(Truncated):
                await side.pull()


@KINDS
async def test_close_notify_alone_is_the_end(resumed: bool) -> None:
    async with tls_pair(resumed=resumed) as (stream, peer):
        await peer.send_all(b"all of it")
        await peer.send_notify()
        await wait_all_tasks_blocked(0.001)
        assert await stream.read() == b"all of it"
        assert stream.hung_up
        assert stream.pending
        assert await stream.read() == b""
        assert await stream.read() == b""
        await write_all(stream, b"an answer")
        assert await hear(peer, 9) == b"an answer"
        scope = trio.CancelScope()
        stream.watch(scope)
        assert scope.cancel_called


@KINDS
async def test_a_cut_within_a_record_is_an_error(resumed: bool) -> None:
    async with tls_pair(resumed=resumed) as (stream, peer):
        await peer.transport.send_all(peer.seal(b"x" * 100)[:50])
        await peer.transport.send_eof()
        with pytest.raises(Truncated):
            await stream.read()


@KINDS
async def test_a_forged_record_is_an_error_with_an_alert(resumed: bool) -> None:
    async with tls_pair(resumed=resumed) as (stream, peer):
        good, forged = peer.seal(b"good"), bytearray(peer.seal(b"forged"))
        forged[-1] ^= 1
        await peer.transport.send_all(good + bytes(forged) + good)
        await wait_all_tasks_blocked(0.001)
        assert await stream.read() == b"good"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.read()
            assert isinstance(caught.value.__cause__, TlsError)
        with pytest.raises(Exception, match=r"(?i)bad.record.mac"):
            await peer.receive_some()


@KINDS
async def test_what_is_no_record_is_an_error_at_once(resumed: bool) -> None:
    for said in (b"GET / HTTP/1.1\r\n", b"\x17\x03\x03\xff\xff", b"\x63\x03\x03\x00\x10x"):
        async with tls_pair(resumed=resumed) as (stream, peer):
            await peer.transport.send_all(said)
            with pytest.raises(trio.BrokenResourceError):
                await stream.read()


async def test_an_abort_says_no_close_notify() -> None:
    async with tls_pair() as (stream, peer):
        stream.write_now(b"half")
        stream.abort()
        with pytest.raises(trio.BrokenResourceError):
            await hear(peer, 5)


# ---- writing


@KINDS
async def test_a_short_write_keeps_one_byte_and_takes_it_again(resumed: bool) -> None:
    async with tls_pair(resumed=resumed) as (stream, peer):
        data = random.Random(1).randbytes(4 * 1024 * 1024)
        taken = stream.write_now(data)
        assert 0 < taken < len(data)
        assert 0 < unsent(stream) <= MAX_BACKLOG_BYTES + 4096
        assert stream.write_now(data[taken:]) == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.wait_writable)
            heard = await hear(peer, taken)
        with pytest.raises(RuntimeError, match="offered again"):
            stream.write_now(bytes((data[taken] ^ 1,)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all, stream, data[taken:])
            assert heard + await hear(peer, len(data) - len(heard)) == data


async def test_a_reader_keeps_what_it_owes_in_bounds() -> None:
    async with tls_pair(SUITES13[0], resumed=True) as (stream, peer):
        # Each asks for an answer; one serves for all, with the next write.
        for _ in range(20):
            peer.ask_for_update(answer=True)
            await peer.send_all(b"x")
        assert await read_exactly(stream, 20) == b"x" * 20
        assert unsent(stream) == 0
        await talk(stream, peer)


@KINDS
async def test_a_wish_to_renegotiate_is_declined(resumed: bool) -> None:
    async with tls_pair(SUITES[3], resumed=resumed) as (stream, peer):
        await peer.send_all(b"before")
        assert await stream.read() == b"before"
        peer.ask_to_renegotiate()
        await peer.flush()
        with trio.move_on_after(0.01):
            await stream.read()
        with pytest.raises(ssl.SSLError, match=r"(?i)no.renegotiation"):
            await peer.receive_some()
        stream.write_now(b"still here")


async def test_a_farewell_that_does_not_fit_goes_out_while_we_read() -> None:
    async with tls_pair() as (stream, peer), trio.open_nursery() as nursery:
        data = b"z" * (4 * 1024 * 1024)
        taken = stream.write_now(data)
        stream.shutdown_write()
        assert unsent(stream)
        nursery.start_soon(stream.read)
        assert await hear(peer, taken + 1) == data[: taken + 1]  # what was kept back as well
        assert await peer.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_waiting_ends_with_any_progress() -> None:
    async with tls_pair() as (stream, peer):
        taken = stream.write_now(b"z" * (4 * 1024 * 1024))
        held = unsent(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.wait_writable)
            heard = await hear(peer, taken // 2)
        assert unsent(stream) < held
        assert set(heard) == set(b"z")


# ---- what waits below


async def test_a_ticket_is_not_pending_data() -> None:
    async with upstream_pair(SUITES13[0]) as (stream, peer, under):
        await wait_all_tasks_blocked(0.001)
        assert under.pending  # two tickets
        idle = stream.pending
        assert not idle
        await peer.send_all(b"unasked")
        await wait_all_tasks_blocked(0.001)
        assert [stream.pending, stream.pending] == [True, True]
        found = [stream.read_now(), stream.read_now()]
        assert found == [b"unasked", None]


async def test_pending_leaves_bytes_to_whoever_waits_for_them() -> None:
    async with tls_pair() as (stream, peer), trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def reader() -> None:
            got.append(await stream.read())

        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        await peer.send_all(b"for the reader")
        while not stream.pending and not got:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.001)
        assert got == [b"for the reader"]


async def test_an_error_below_is_pending() -> None:
    async with tls_pair() as (stream, peer):
        await peer.transport.send_eof()
        await wait_all_tasks_blocked(0.001)
        assert stream.pending
        with pytest.raises(Truncated):
            await stream.read()


# ---- moving


@pytest.mark.parametrize("suite", SUITES)
async def test_a_session_goes_on_in_another_object(suite: str) -> None:
    async with movable_pair(suite) as (stream, peer, under):
        await talk(stream, peer)
        await talk(stream, peer, 1, 30_000)
        second = resume(under, stream.export())
        assert second.facts == stream.facts
        await talk(second, peer)
        await talk(second, peer, 1, 30_000)
        third = resume(under, second.export())
        await talk(third, peer)
        third.shutdown_write()
        assert await peer.receive_some() == b""
        await peer.send_eof()
        assert await third.read() == b""


@pytest.mark.parametrize("suite", SUITES)
async def test_a_clients_session_goes_on_in_another_object(suite: str) -> None:
    async with upstream_pair(suite) as (stream, peer, under):
        second = resume(under, stream.export())  # before the tickets were read
        await talk(second, peer)
    async with upstream_pair(suite) as (stream, peer, under):
        await talk(stream, peer)
        await talk(resume(under, stream.export()), peer)


@pytest.mark.parametrize("suite", SUITES)
async def test_a_partial_record_goes_along(suite: str) -> None:
    for size in (1, 4, 5, 6, 300, 16_000):
        async with movable_pair(suite) as (stream, peer, under):
            before, record = peer.seal(b"before"), peer.seal(b"y" * 16_000)
            await peer.transport.send_all(before + record[:size])
            await wait_all_tasks_blocked(0.001)
            assert await stream.read() == b"before"
            with trio.move_on_after(0.005):
                await stream.read()
            second = resume(under, stream.export())
            await peer.transport.send_all(record[size:] + peer.seal(b"after"))
            assert await read_exactly(second, 16_005) == b"y" * 16_000 + b"after"
            await talk(second, peer)


async def test_records_that_came_with_the_handshake_go_along() -> None:
    async with connection() as pair, trio.open_nursery() as nursery:
        peer = SslPeer(pair.socket, client_context(), server_name=NAME)
        late: list[bytes] = []

        async def theirs() -> None:
            await peer.handshake(whole=False)
            last = peer.outgoing() + peer.seal(b"early")
            late.append(peer.seal(b"late"))
            await peer.transport.send_all(last + late[0][:7])

        nursery.start_soon(theirs)
        stream = await accept(pair.under, b"", server_tls())
        second = resume(pair.under, stream.export())
        assert second.pending
        assert await second.read() == b"early"
        await peer.transport.send_all(late[0][7:])
        assert await second.read() == b"late"


@pytest.mark.parametrize("answer", [False, True], ids=["silent", "answered"])
@pytest.mark.parametrize("suite", SUITES13)
async def test_key_updates_before_and_after_the_move(suite: str, answer: bool) -> None:
    async with movable_pair(suite) as (stream, peer, under):
        await talk(stream, peer)
        for _ in range(2):
            peer.ask_for_update(answer=answer)
            await talk(stream, peer)
        second = resume(under, stream.export())
        for _ in range(2):
            await talk(second, peer)
            peer.ask_for_update(answer=answer)
        await talk(second, peer)
        await talk(resume(under, second.export()), peer)


@pytest.mark.parametrize("suite", SUITES13)
async def test_an_answer_still_owed_goes_along(suite: str) -> None:
    async with movable_pair(suite) as (stream, peer, under):
        peer.ask_for_update(answer=True)
        await peer.send_all(b"answer that")
        assert await read_exactly(stream, 11) == b"answer that"
        second = resume(under, stream.export())
        await talk(second, peer)
        peer.ask_for_update(answer=True)
        await peer.send_all(b"and that")
        assert await read_exactly(second, 8) == b"and that"
        await talk(resume(under, second.export()), peer)


async def test_a_record_that_is_sealed_and_not_sent_goes_along() -> None:
    """Its number is spent: without it the peer would take no later one for authentic."""
    ours, theirs = pair(TLS12)
    asking = writer_of(TLS12)
    async with connection() as two:
        facts = TlsFacts(version=TLS12, cipher="ECDHE-ECDSA-AES128-GCM-SHA256")
        stream = TlsStream(two.under, ours, facts, b"")
        wish = asking.seal(HANDSHAKE, b"\0\0\0\0")  # to renegotiate, which is declined
        await two.socket.send_all(wish + asking.seal(APPLICATION_DATA, b"x"))
        assert await stream.read() == b"x"
        state = stream.export()
        assert stream.export() == state
        second = resume(two.under, state)
        third = resume(two.under, second.export())
        await write_all(third, b"y")
        got = b""
        while whole_records(got) < 2:
            got += await two.socket.receive_some()
        assert theirs.decrypt(got) == b"y"


@pytest.mark.parametrize("suite", SUITES12)
async def test_what_openssl_sealed_and_did_not_send_goes_along(suite: str) -> None:
    """It is counted only as it is taken."""
    async with movable_pair(suite) as (stream, shaken, under):
        peer = OwnPeer(shaken.transport, stream)
        await shaken.transport.send_all(peer.wish() + peer.seal(b"x"))
        assert await stream.read() == b"x"
        state = stream.export()
        assert stream.export() == state
        second = resume(under, state)
        await write_all(second, b"y")
        assert await peer.receive_some() == b"y"


def whole_records(records: bytes) -> int:
    count = at = 0
    while at + 5 <= len(records):
        at += 5 + int.from_bytes(records[at + 3 : at + 5])
        count += at <= len(records)
    return count


async def test_a_half_written_record_goes_along() -> None:
    async with movable_pair() as (stream, peer, under):
        data = random.Random(2).randbytes(2 * 1024 * 1024)
        taken = stream.write_now(data)
        assert taken < len(data)
        second = resume(under, stream.export())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all, second, data[taken:])
            assert await hear(peer, len(data)) == data
        await talk(second, peer)


async def test_what_was_decrypted_and_not_read_goes_along() -> None:
    async with movable_pair() as (stream, peer, under):
        await peer.send_all(b"found by looking")
        await wait_all_tasks_blocked(0.001)
        assert stream.pending
        second = resume(under, stream.export())
        assert second.pending
        assert await second.read() == b"found by looking"
        assert not second.pending


async def test_both_ends_go_along() -> None:
    async with movable_pair() as (stream, peer, under):
        stream.shutdown_write()
        second = resume(under, stream.export())
        with pytest.raises(trio.BrokenResourceError):
            second.write_now(b"x")
        await peer.send_all(b"last words")
        assert await second.read() == b"last words"
    async with movable_pair() as (stream, peer, under):
        await peer.send_notify()
        assert await stream.read() == b""
        second = resume(under, stream.export())
        assert await second.read() == b""
        assert second.hung_up
        second.write_now(b"still")
        assert await hear(peer, 5) == b"still"


async def test_the_old_object_goes_on_if_the_move_is_called_off() -> None:
    async with tls_pair() as (stream, peer):
        await talk(stream, peer)
        stream.export()
        await talk(stream, peer)


async def test_a_session_that_cannot_be_moved_says_why() -> None:
    async with tls_pair(movable=False) as (stream, peer):
        with pytest.raises(TlsError, match="its keys are not kept"):
            stream.export()
        await talk(stream, peer)
    async with connection() as pair:
        context = client_context()
        context.maximum_version = context.minimum_version.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
        tls = server_tls(ciphers="ECDHE-ECDSA-AES128-SHA256")
        peer = SslPeer(pair.socket, context, server_name=NAME)
        stream = await served(pair, tls, peer)
        with pytest.raises(TlsError, match="cipher suite"):
            stream.export()
        await talk(stream, peer)
        await talk(stream, peer, 1, 30_000)
        stream.close()
        with pytest.raises(TlsError, match="it has ended"):
            stream.export()


async def test_a_state_is_a_few_hundred_bytes() -> None:
    async with tls_pair() as (stream, _):
        assert len(stream.export()) < 700


def test_any_other_state_is_refused() -> None:
    with pytest.raises(ValueError, match="snapshot of tls"):
        resume(None, b"\x80")  # type: ignore[arg-type]  # it is not looked at
