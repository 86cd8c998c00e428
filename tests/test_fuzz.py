"""A short run of every fuzz target, the same each time, and what happens to a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import run
from fuzz.targets import Seed, Target

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("http1", 700),
        ("http2", 700),
        ("bolt", 700),
        ("opaque", 300),
        ("detect", 300),
        ("config", 60),
        ("tls", 700),
        ("carried", 700),
        ("channel", 3000),
        ("states", 1500),
        ("relay", 700),
        ("hash_policy", 1500),
        ("dns", 700),
    ],
)
def test_a_short_run_finds_nothing(
    name: str, runs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run.main([name, "--deterministic", str(runs)])
    assert code == 0, capsys.readouterr().out
    assert capsys.readouterr().out == f"{name}: {runs} inputs without finding\n"


def test_each_target_states_its_invariant_in_its_first_line() -> None:
    for path in (ROOT / "fuzz" / "targets").glob("[!_]*.py"):
        assert path.read_text().startswith('"""Invariant: '), path


def test_a_finding_is_printed_as_hex_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(data: bytes) -> None:
        if b"\x80" in data:
            raise RuntimeError("0x80 again")

    target = Target(name="picky", check=check, seeds=lambda: [Seed("a", b"a"), Seed("b", b"b\x80")])
    assert run.run_loop(target, runs=10, seconds=None, crashes=tmp_path) == 1
    assert "picky: RuntimeError: 0x80 again\n  input, hex: 6280\n" in capsys.readouterr().out
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"b\x80"]


def test_inputs_are_the_same_in_every_run() -> None:
    target = run.make_target("detect")
    first, second = run.inputs(target), run.inputs(target)
    assert [next(first) for _ in range(100)] == [next(second) for _ in range(100)]


def test_an_unknown_target_is_refused_with_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run.main(["htpt1", "--runs", "1"]) == 2
    assert "no target 'htpt1'; there are: bolt, " in capsys.readouterr().err


def test_seconds_end_a_run() -> None:
    target = Target(name="quick", check=lambda _data: None, seeds=lambda: [Seed("a", b"a")])
    assert run.run_loop(target, runs=None, seconds=0.02) == 0
