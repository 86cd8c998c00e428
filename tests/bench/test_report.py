from __future__ import annotations

import io
import json
from contextlib import nullcontext

from rich.console import Console

from bench import report
from bench.contest import Outcome, Standing
from bench.measure import Sample
from bench.rows.row import Figure, Goal, Row

_ROW = Row(
    key="http1",
    title="HTTP/1.1 [plain]",
    figures=(Figure(key="cpu_us", label="CPU per request", unit="µs"),),
    upstream=lambda _lab: nullcontext(1),
    contenders=(),
    goals=(Goal(figure="cpu_us", peer="envoy", bound=0.9),),
    note="a note",
)


def _standing(name: str, cpu_us: float, others_cpu: float = 0.0) -> Standing:
    sample = Sample(values={"cpu_us": cpu_us}, errors=0, others_cpu=others_cpu)
    return Standing(name=name, version="1.2", samples=(sample,))


_OUTCOME = Outcome(
    row=_ROW,
    standings=(_standing("envoy", 45.0), _standing("xproxy", 54.0, others_cpu=0.25)),
    skipped=(("nginx", "nginx is not installed"),),
    failed=(("mitmproxy", "ended with exit code 1"),),
)


def test_the_table_says_ratio_goal_disturbance_and_who_is_absent() -> None:
    console = Console(file=io.StringIO(), width=120)

    report.show(_OUTCOME, console)

    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "HTTP/1.1 [plain]" in text
    assert "1.20" in text
    assert "goal: CPU per request 1.20 × envoy (≤ 0.9): missed" in text
    assert "25% !" in text
    assert "skipped: nginx: nginx is not installed" in text
    assert "failed: mitmproxy: ended with exit code 1" in text
    assert "note: a note" in text


def test_json_holds_every_round_and_every_ratio() -> None:
    document = report.as_json([_OUTCOME], machine={"cpus": 2}, conditions={"rounds": 1})

    again = json.loads(json.dumps(document))
    (row,) = again["rows"]
    assert again["machine"] == {"cpus": 2}
    assert row["contenders"][1]["rounds"] == [{"cpu_us": 54.0}]
    assert row["ratios"]["envoy"]["cpu_us"] == 1.2
    assert row["goals"][0]["met"] is False
    assert row["skipped"] == [{"name": "nginx", "reason": "nginx is not installed"}]
