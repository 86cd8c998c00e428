from __future__ import annotations

import json

from bench.load import parse_rpcload, parse_wrk


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
