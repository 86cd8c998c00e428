"""Serial connections cut at every scheduling point: both peers see what they see without."""

from __future__ import annotations

import re
from typing import Final

import pytest
import trio

from tests.migration.cuts import WAYS, Client, Origin, Scenario, Script, check
from tests.migration.own_peer import OwnPeer
from tests.transport.tls.kit import SUITES12, SUITES13, SslPeer
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT

GET: Final = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"
POST: Final = b"POST /%d HTTP/1.1\r\nhost: a\r\n%b\r\n"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)
_EXPECT: Final = re.compile(rb"expect: *100-continue", re.IGNORECASE)


async def web(stream: trio.abc.Stream, got: bytearray) -> None:
    """Answer each request with its path; those that end in 5 in chunks, one by one."""
    at = 0

    async def until(end: int) -> bool:
        while len(got) < end:
            piece = await stream.receive_some()
            if not piece:
                return False
            got.extend(piece)
        return True

    async def until_found(what: bytes, start: int) -> int:
        while (end := got.find(what, start)) < 0:
            if not await until(len(got) + 1):
                return -1
        return end + len(what)

    while (end := await until_found(b"\r\n\r\n", at)) > 0:
        head = bytes(got[at:end])
        path = head.split(b" ", 2)[1]
        if _EXPECT.search(head):
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        if _CHUNKED.search(head):
            end = await until_found(b"0\r\n\r\n", end)
        elif length := _LENGTH.search(head):
            end += int(length[1])
            await until(end)
        at = end
        if path.endswith(b"5"):
            await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for piece in (b"<", path, b">"):
                await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
                await trio.lowlevel.checkpoint()
            await stream.send_all(b"0\r\n\r\n")
        else:
            body = b"<%b>" % path
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )


def unframed(data: bytes) -> bytes:
    """Return messages without how their bodies are framed: by a length where they came whole, else in chunks."""
    out = []
    while (end := data.find(b"\r\n\r\n") + 4) > 3:
        head, data = data[:end], data[end:]
        lines = head.split(b"\r\n")
        body = b""
        if _CHUNKED.search(head):
            size = -1
            while size:
                line, _, data = data.partition(b"\r\n")
                size = int(line, 16)
                body += data[:size]
                data = data[size + 2 :]
        elif length := _LENGTH.search(head):
            body, data = data[: int(length[1])], data[int(length[1]) :]
        framing = (_CHUNKED, _LENGTH)
        kept = [line for line in lines if not any(field.match(line) for field in framing)]
        out += [*kept, body]
    return b"\r\n".join(out) + data


# ---- scripts


async def keeps_alive(client: Client) -> None:
    for number in range(1, 4):
        await client.send(GET % number)
        await client.until(b"</%d>" % number)


async def sends_heads_in_pieces(client: Client) -> None:
    for number in range(1, 4):
        request = GET % number
        for at in range(0, len(request), 13):
            await client.send(request[at : at + 13])
            await client.pause()
        await client.until(b"</%d>" % number)


async def pipelines(client: Client) -> None:
    await client.send(b"".join(GET % number for number in range(1, 21) if number % 10 != 5))
    await client.until(b"</20>")


async def pipelines_and_breaks_off_in_a_head(client: Client) -> None:
    await client.send(GET % 1 + GET % 2 + (GET % 3)[:11])
    await client.until(b"</2>")
    await client.send((GET % 3)[11:] + GET % 4)
    await client.until(b"</4>")


async def waits_to_be_told_to_go_on(client: Client) -> None:
    for number in range(1, 3):
        await client.send(POST % (number, b"expect: 100-continue\r\ncontent-length: 6\r\n"))
        await client.until(b"100 Continue", number)
        await client.send(b"abc")
        await client.pause()
        await client.send(b"def" + GET % (number + 10))
        await client.until(b"</%d>" % (number + 10))


async def sends_and_gets_chunks(client: Client) -> None:
    for number in (5, 15):
        await client.send(POST % (number, b"transfer-encoding: chunked\r\n") + b"3\r\nab")
        await client.pause()
        await client.send(b"c\r\n1\r\nd\r")
        await client.pause()
        await client.send(b"\n0\r\n\r\n" + GET % (number + 1))
        await client.until(b"</%d>" % (number + 1))


async def sends_empty_lines(client: Client) -> None:
    await client.send(GET % 1 + b"\r\n")
    await client.until(b"</1>")
    await client.send(b"\r")
    await client.pause()
    await client.send(b"\n" + GET % 2)
    await client.until(b"</2>")


async def says_which_is_the_last(client: Client) -> None:
    await client.send(GET % 1 + b"GET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    await client.finish()


SCRIPTS: Final[dict[str, Script]] = {
    script.__name__: script
    for script in (
        keeps_alive,
        sends_heads_in_pieces,
        pipelines,
        pipelines_and_breaks_off_in_a_head,
        waits_to_be_told_to_go_on,
        sends_and_gets_chunks,
        sends_empty_lines,
        says_which_is_the_last,
    )
}
WEB: Final[Origin] = web


def scenario(name: str) -> Scenario:
    return Scenario(
        SCRIPTS[name], WEB, normal=unframed if name == sends_and_gets_chunks.__name__ else None
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCRIPTS)
async def test_at_every_step(name: str, way: str) -> None:
    moves, thaws, upstream_moves = await check(scenario(name), way=way)
    assert (moves > 10) == (way != "thaw")
    assert (thaws > 10) == (way != "move")
    assert (upstream_moves > 0) == (way != "thaw")


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("name", SCRIPTS)
async def test_several_times_in_a_row(name: str, times: int) -> None:
    moves, _, _ = await check(scenario(name), way="move", times=times, every=3)
    assert moves > 10


# ---- inside TLS


def tls_of(client: Client) -> SslPeer:
    assert isinstance(client.stream, SslPeer)
    return client.stream


async def sends_half_records(client: Client) -> None:
    peer = tls_of(client)
    for number in range(1, 4):
        sealed = peer.seal(GET % number)
        for at in range(0, len(sealed), 17):
            await peer.transport.send_all(sealed[at : at + 17])
            await client.pause()
        await client.until(b"</%d>" % number)


async def changes_keys(client: Client) -> None:
    peer = tls_of(client)
    for number in range(1, 5):
        peer.ask_for_update(answer=number % 2 == 0)
        await client.send(GET % number)
        await client.until(b"</%d>" % number)


async def wishes_to_renegotiate(client: Client) -> None:
    peer = client.stream
    assert isinstance(peer, OwnPeer)
    for number in range(1, 5):
        # The wish and a request in one read: the refusal is owed while the request is served.
        request = GET % number
        await peer.transport.send_all(peer.wish() + peer.seal(request[:9]))
        await client.pause()
        await peer.transport.send_all(peer.seal(request[9:]) + peer.wish())
        await client.until(b"</%d>" % number)


SUITES: Final = {"1.2": SUITES12[0], "1.3": SUITES13[1]}


@pytest.mark.parametrize("way", ["move", "both"])
@pytest.mark.parametrize("script", [keeps_alive, pipelines_and_breaks_off_in_a_head])
@pytest.mark.parametrize("version", SUITES)
async def test_at_every_step_inside_tls(version: str, script: Script, way: str) -> None:
    moves, _, _ = await check(Scenario(script, WEB, suite=SUITES[version]), way=way)
    assert moves > 10


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize(
    ("version", "script"),
    [
        ("1.2", sends_half_records),
        ("1.3", sends_half_records),
        ("1.3", changes_keys),
        ("1.2", wishes_to_renegotiate),
    ],
)
async def test_amid_what_tls_has_to_say(version: str, script: Script, times: int) -> None:
    own = script is wishes_to_renegotiate
    made = Scenario(script, WEB, suite=SUITES[version], own_client=own)
    moves, _, _ = await check(made, way="move", times=times, every=2)
    assert moves > 10


# ---- connections to an upstream


def call(number: int, kind: int = 1) -> bytes:
    """Return a framed Thrift message in the binary protocol; ``kind`` 1 asks, 2 answers."""
    name = b"echo"
    message = b"\x80\x01\x00" + bytes((kind,)) + len(name).to_bytes(4) + name
    message += number.to_bytes(4) + b"\0"
    return len(message).to_bytes(4) + message


async def answers_calls(stream: trio.abc.Stream, got: bytearray) -> None:
    at = 0
    while piece := await stream.receive_some():
        got.extend(piece)
        while len(got) >= at + 4 and len(got) >= (end := at + 4 + int.from_bytes(got[at : at + 4])):
            answer = call(int.from_bytes(got[end - 5 : end - 1]), 2)
            at = end
            await stream.send_all(answer[:9])
            await trio.lowlevel.checkpoint()
            await stream.send_all(answer[9:])


async def calls(client: Client) -> None:
    for number in range(1, 9):
        await client.send(call(number))
        await client.until(call(number, 2))


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("way", ["move", "thaw"])
async def test_thrift_to_an_upstream(way: str, times: int) -> None:
    made = Scenario(calls, answers_calls, THRIFT, upstreams_only=True)
    _, _, moves = await check(made, way=way, times=times)
    assert (moves > 10 * times) == (way == "move")


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("version", SUITES)
async def test_inside_tls_to_an_upstream(version: str, times: int) -> None:
    made = Scenario(keeps_alive, WEB, upstream_suite=SUITES[version])
    moves, _, upstream_moves = await check(made, way="move", times=times, every=2)
    assert min(moves, upstream_moves) > 5
