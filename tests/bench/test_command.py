from __future__ import annotations

import pytest

from bench.command import ROWS, main, parser


def test_an_unknown_row_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http9"]) == 2
    assert "no row named http9" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--seconds", "--rounds"])
def test_windows_and_rounds_are_positive(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([option, "0"])
    assert "at least 1" in capsys.readouterr().err


def test_goals_name_figures_and_contenders_of_their_row() -> None:
    for row in ROWS.values():
        for goal in row.goals:
            assert goal.figure in {figure.key for figure in row.figures}
            assert goal.peer in {None, *(contender.name for contender in row.contenders)}
