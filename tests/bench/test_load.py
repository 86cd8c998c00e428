from __future__ import annotations

import json
import socket
import subprocess

import h2.config
import h2.connection
import h2.events
import pytest

from bench import tools
from bench.load import parse_h2load, parse_h2vary, parse_rpcload, parse_wrk
from bench.processes import Failed


def test_wrk_ends_with_our_line() -> None:
    text = (
        "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n"
        "Requests/sec:  20000.00\n"
        '{"requests":40000,"duration_us":2000000,"errors":3,"p50_us":1400,"p99_us":1900}\n'
    )

    load = parse_wrk(text)

    assert (load.requests, load.per_second, load.errors) == (40_000, 20_000.0, 3)
    assert (load.p50_us, load.p99_us) == (1400, 1900)


def test_every_kind_of_failure_counts_as_an_error() -> None:
    report = {
        "proto": "bolt",
        "requests": 500,
        "rps": 249.0,
        "seconds": 2.0,
        "errors": 1,
        "mismatches": 20,
        "failed_inflight": 300,
        "unanswered": 4000,
        "connect_errors": 50000,
        "p50_us": 200.5,
        "p99_us": 900.0,
        "closes_by_second": {},
    }

    load = parse_rpcload(json.dumps(report))

    assert load.errors == 54_321
    assert load.per_second == 250.0


H2LOAD = """finished in 500.00ms, 87421.00 req/s, 5.92MB/s
requests: 1050 total, 1056 started, 1005 done, {good} succeeded, {failed} failed, {failed} errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, {failed} 5xx
traffic: 5.92MB (6207283) total, 4.00MB (4196208) headers (space savings 51.02%), 426.86KB ({data}) data
                     min         max         mean         sd        +/- sd
time for request:      158us      8.96ms      2.92ms       748us    88.13%
time for connect:       78us       325us       210us        89us    62.50%
"""


@pytest.mark.parametrize(
    ("good", "failed", "data", "errors"),
    [(1005, 0, 10_090, 0), (1000, 5, 10_000, 5), (1005, 0, 10_031, 2)],
    ids=["all good", "some failed", "bytes are missing"],
)
def test_h2load_counts_bytes_in_place_of_looking_at_them(
    good: int, failed: int, data: int, errors: int
) -> None:
    load = parse_h2load(H2LOAD.format(good=good, failed=failed, data=data), answer_bytes=10)

    assert (load.requests, load.errors) == (good, errors)
    assert load.per_second == good * 2
    assert load.mean_us == pytest.approx(2920)


def test_an_unknown_word_of_h2load_is_a_failure() -> None:
    with pytest.raises(Failed, match="something unknown: hello"):
        parse_h2load("hello", answer_bytes=1)


def test_h2vary_counts_what_it_was_not_asked_for_as_an_error() -> None:
    load = parse_h2vary(
        '{"requests":500,"seconds":2.0,"errors":1,"mismatches":20,"p50_us":20.5,"p99_us":90.0,"mean_us":25.0}'
    )

    assert (load.requests, load.per_second, load.errors) == (500, 250.0, 21)
    assert (load.p50_us, load.p99_us) == (20.5, 90.0)


@pytest.mark.slow
@pytest.mark.tool("gcc")
def test_h2vary_is_understood_by_another_and_never_says_the_same_twice() -> None:
    for seconds in (0.3, 3, 30):  # on a busy machine it takes longer
        asked: list[frozenset[tuple[str, str]]] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            command = ["load", "-port", port, "-d", str(seconds), "-size", "64", "-m", "4"]
            process = subprocess.Popen(
                [tools.h2vary(), *command], stdout=subprocess.PIPE, text=True
            )
            with listener.accept()[0] as sock:
                serve(sock, asked)
            said, _ = process.communicate(timeout=60)
        load = parse_h2vary(said)
        assert load.errors == 0
        assert load.requests == len(asked)
        if len(asked) > 100:
            break
    else:
        pytest.fail("not so many that the table has turned over")
    for name in (":path", "cookie", "x-request-id", "traceparent", "x-nonce"):
        values = [dict(fields)[name] for fields in asked]
        assert len(set(values)) == len(values), name


def serve(sock: socket.socket, asked: list[frozenset[tuple[str, str]]]) -> None:
    """Answer with the ``h2`` package, each with its nonce, until the client leaves."""
    peer = h2.connection.H2Connection(h2.config.H2Configuration(False, header_encoding="utf-8"))
    peer.initiate_connection()
    sock.sendall(peer.data_to_send())
    while data := sock.recv(65536):
        for event in peer.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                fields = {str(name): str(value) for name, value in event.headers}
                asked.append(frozenset(fields.items()))
                peer.send_headers(event.stream_id, [(":status", "200")])
                body = fields["x-nonce"].encode().ljust(64)
                peer.send_data(event.stream_id, body, end_stream=True)
        sock.sendall(peer.data_to_send())
