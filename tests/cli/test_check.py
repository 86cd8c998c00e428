"""``xproxy check``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from xproxy.cli import check
from xproxy.cli.main import main
from xproxy.registry import CODECS, LOAD_BALANCERS, Entry, Registry, default_registry


def test_a_good_file(good: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(good)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{good}: fine (1 listener, 1 route, 1 cluster)\n"


def test_a_bad_file_gives_all_mistakes(bad: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(bad)])
    assert (result.exit_code, result.stdout) == (2, "")
    first, line, caret, second, *_ = result.stderr.splitlines()
    assert line.strip().startswith("listeners: [{name: 7,")
    assert line[caret.index("^")] == "7"
    assert (
        first
        == f'{bad}:1:20: listeners[0].name: expected text, found the number 7 (did you mean `"7"`?)'
    )
    assert second.startswith(f"{bad}:2:18: routes.main[0].clutser: unknown key (did you mean")


def test_no_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n"


def test_warnings_are_shown(good: Path) -> None:
    good.write_text(good.read_text() + "admin: {address: '0.0.0.0:9901'}\n")
    result = CliRunner().invoke(main, ["check", "-c", str(good)])
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {good}:4:9: admin.address: not a loopback address")


@pytest.mark.parametrize(
    ("group", "name", "attribute", "said"),
    [
        (LOAD_BALANCERS, "raising", "RaisingBalancer", "'raising' cannot be made: RuntimeError"),
        # A listener with all codecs loads them all.
        (CODECS, "gone", "Nothing", "'gone' of else 2 cannot be imported"),
    ],
)
def test_what_run_would_fail_to_build_is_an_error(
    good: Path, monkeypatch: pytest.MonkeyPatch, group: str, name: str, attribute: str, said: str
) -> None:
    odd = Entry(
        group=group,
        name=name,
        distribution="else",
        version="2",
        module="tests.foreign",
        attribute=attribute,
    )
    installed = default_registry()
    ours = (e for g in (CODECS, LOAD_BALANCERS) for e in installed.entries(g))
    registry = Registry([odd, *ours])
    monkeypatch.setattr(check, "default_registry", lambda: registry)
    if group == LOAD_BALANCERS:
        text = good.read_text().replace('9"]', f'9"], load_balancer: {name}')
        good.write_text(text)
    result = CliRunner().invoke(main, ["check", "-c", str(good)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.startswith(f"{good}: ")
    assert len(result.stderr.splitlines()) == 1
