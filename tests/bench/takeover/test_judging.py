"""What is concluded from what a load saw."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import attrs
import cattrs
import pytest
from rich.console import Console

from bench.takeover import peers, plot, report
from bench.takeover.bulk import Transferred
from bench.takeover.processes import Sample, Watch
from bench.takeover.records import Log, Opened, Outcome, Request, Run, percentile, read
from bench.takeover.soak import Generation, Soak, expected
from bench.takeover.steady import Counts, Latencies, Plan, Steady, judged
from bench.takeover.upgrade import Upgraded

PLAN = Plan(connections=2, rate=10.0, before=5.0, after=5.0, command="", patience=1.0)
UPGRADED = Upgraded(began=5.0, told=6.0, let_go=6.0, turns=0, gone=7.0, old=(10,), said="")


def _request(
    connection: int, due: float, took: float = 0.001, outcome: Outcome = "good"
) -> Request:
    answered = due + took if outcome in ("good", "mismatch") else 0.0
    sent = 0.0 if outcome == "unsent" else due
    return Request(connection=connection, due=due, sent=sent, answered=answered, outcome=outcome)


def _run(*requests: Request, kinds: tuple[str, ...] = ("http1", "http1")) -> Run:
    return Run(
        opened=tuple(Opened(kind=kind, local_port=1, closed_at=0.0, why="") for kind in kinds),
        requests=requests,
        complaints={},
        cpu_seconds=1.0,
        late_p99=0.001,
        late_max=0.002,
        began=0.0,
        ended=10.0,
    )


def _steady(*requests: Request, upgraded: Upgraded = UPGRADED, plan: Plan = PLAN) -> Steady:
    watch = Watch(9)
    for at in (5.0, 6.0, 7.0):
        watch.samples += [
            Sample(at, 9, 12 << 20, 0.0, 5),
            Sample(at, 10, 50 << 20, at / 10, 50),
            Sample(at, 11, int(at) * (10 << 20), 0.5, 50),
        ]
    return judged("http1", plan, _run(*requests), upgraded, watch)


def test_a_connection_is_alive_if_it_answers_after_the_old_process_has_gone() -> None:
    found = _steady(_request(0, 1.0), _request(1, 1.0), _request(0, 6.9), _request(1, 7.1))
    assert (found.alive, found.good) == (1, False)
    assert _steady(_request(0, 7.1), _request(1, 7.1)).good


def test_no_connection_counts_as_alive_while_the_old_process_is_there() -> None:
    staying = attrs.evolve(UPGRADED, gone=None)
    found = _steady(_request(0, 9.0), _request(1, 9.0), upgraded=staying)
    assert (found.alive, found.good) == (0, False)


@pytest.mark.parametrize("outcome", ["failed", "mismatch", "unanswered", "unsent"])
def test_one_wrong_request_is_enough(outcome: Outcome) -> None:
    found = _steady(_request(0, 7.1), _request(1, 7.1), _request(0, 1.0, outcome=outcome))
    assert (found.alive, found.good) == (2, False)


def test_a_stall_is_felt_by_the_upgrade_it_happened_in() -> None:
    after = (_request(0, 7.2), _request(1, 7.2))
    found = _steady(_request(0, 5.5, 0.3), *after)
    assert (found.during.stalled, found.before.stalled, found.good) == ((1, 1), (0, 0), False)
    patient = attrs.evolve(PLAN, slack=0.1)
    assert _steady(_request(0, 5.5, 0.3), *after, plan=patient).during.stalled == (1, 0)
    assert _steady(_request(0, 1.5, 0.3), *after).before.stalled == (1, 1)


def test_figures_are_of_the_right_processes() -> None:
    found = _steady(_request(0, 7.1))
    assert found.supervisor.rss_bytes == 12 << 20
    assert found.old.rss_bytes == 50 << 20
    assert found.old.cpu_seconds == pytest.approx(0.2)
    assert found.new.rss_bytes == 70 << 20
    assert found.peak_bytes == (12 + 50 + 70) << 20


def test_percentiles() -> None:
    values = [float(n) for n in range(100)]
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [0.0, 50.0, 99.0, 99.0]
    assert percentile([], 50) == 0.0


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    log = Log()
    log.note(1, 2.0, 3.0, 4.0, 2)
    run = _run()
    run.write(tmp_path / "run", log)
    wanted = Request(connection=1, due=2.0, sent=3.0, answered=4.0, outcome="mismatch")
    assert read(tmp_path / "run") == attrs.evolve(run, requests=(wanted,))


def test_the_picture_is_xml_and_marks_the_upgrade() -> None:
    picture = plot.draw([_steady(*(_request(n % 2, n / 10) for n in range(100)))])
    root = xml.etree.ElementTree.fromstring(picture)
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "upgrade" in texts
    assert "HTTP/1.1: 2 of 2 connections alive" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_the_table_says_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = _steady(_request(0, 7.1), _request(1, 7.1))
    report.show([found], peers.peers(), Console(width=240))
    said = capsys.readouterr().out
    assert "2 of 2" in said
    assert "HAProxy" in said
    document = report.as_json([found], {})
    assert isinstance(document, dict)
    assert document["runs"]


def test_the_documentation_has_the_figures_of_others() -> None:
    found = peers.peers()
    assert {one.facts["proxy"] for one in found} >= {"Envoy", "nginx", "HAProxy", "MOSN"}
    with pytest.raises(ValueError, match="no "):
        peers.read("nothing")
    with pytest.raises(ValueError, match="no table"):
        peers.read("<!-- peers -->\n\ntext")


def _soak(**other: Any) -> Soak:  # any field
    calm = Generation(rss_bytes=80 << 20, descriptors=100, cpu_per_request=0.001)
    good = Soak(
        upgrades=(UPGRADED,),
        generations=(calm,) * 30,
        connections=3,
        alive=3,
        counts=Counts(requests=9, failed=0, mismatched=0, unsent=0),
        latencies=Latencies(count=9, p50=0.0, p99=0.0, most=0.0, stalled=(0, 0)),
        streams=(),
        uncounted={},
        complaints={},
        errors=(),
        peak_bytes=0,
    )
    return attrs.evolve(good, **other)


def test_a_calm_soak_has_no_faults() -> None:
    assert _soak().faults == []


@pytest.mark.parametrize(
    ("name", "value"), [("rss_bytes", 100 << 20), ("descriptors", 120), ("cpu_per_request", 0.002)]
)
def test_what_grows_from_the_tenth_upgrade_on_is_a_fault(name: str, value: float) -> None:
    calm = _soak().generations

    def other(one: Generation, found: float) -> Generation:
        return cattrs.structure({**attrs.asdict(one), name: found}, Generation)

    grown = (*calm[:20], *(other(one, value) for one in calm[20:]))
    assert len(_soak(generations=grown).faults) == 1
    early = tuple(other(one, value / 4) for one in calm[:4])
    assert _soak(generations=(*early, *calm[4:])).faults == []


def _transferred(kind: str = "http1", error: str = "") -> Transferred:
    return Transferred(kind=kind, way="down", size=1, began=0.0, ended=1.0, error=error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alive": 2},
        {"counts": Counts(requests=9, failed=1, mismatched=0, unsent=0)},
        {"counts": Counts(requests=9, failed=0, mismatched=1, unsent=0)},
        {"counts": Counts(requests=9, failed=0, mismatched=0, unsent=1)},
        {"streams": (_transferred(error="reset"),)},
        {"uncounted": {"a": (1, 2)}},
        {"complaints": {"http1: closed": 1}},
        {"errors": ("Traceback",)},
        {"upgrades": (attrs.evolve(UPGRADED, gone=None),)},
    ],
)
def test_every_fault_of_a_soak_is_said(wrong: dict[str, object]) -> None:
    assert len(_soak(**wrong).faults) == 1


def test_the_counters_of_the_proxy_follow_from_what_clients_did() -> None:
    kinds = ("http1", "tls-bolt", "l4", "grpc-stream")
    run = _run(
        *(_request(number, 1.0) for number in range(4)),
        *(_request(2, 2.0), _request(0, 2.0), _request(0, 3.0, outcome="unsent")),
        kinds=kinds,
    )
    found = expected(run, [_transferred("tls-http1"), _transferred("l4")], 1)
    assert found["cluster.http.statuses.ok"] == 2
    assert found["cluster.bolt.statuses.ok"] == 1
    assert found["listener.edge.downstream_rq_total"] == 6
    assert found["listener.edge.downstream_tls_handshakes"] == 2
    assert found["listener.l4.downstream_rx_bytes_total"] == 64 + 204
    assert found["listener.l4-bulk.downstream_cx_total"] == 1
