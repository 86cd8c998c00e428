"""The examples are right, and nothing about them is odd."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.docs.pages import ROOT
from xproxy.cli.main import main
from xproxy.registry import CODECS, default_registry

EXAMPLES = sorted(
    path.relative_to(ROOT / "examples") for path in (ROOT / "examples").rglob("*.yaml")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the examples, and make their certificates."""
    copy = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(ROOT / "examples", copy, ignore=shutil.ignore_patterns("certs"))
    subprocess.run([sys.executable, copy / "certificates.py"], check=True, timeout=240)
    return copy


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_check_finds_nothing(folder: Path, example: Path) -> None:
    if "http1" not in default_registry().names(CODECS):
        pytest.skip("xproxy is not installed")
    result = CliRunner().invoke(main, ["check", "-c", str(folder / example)])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    assert f"-c examples/{example}" in (folder / example).read_text("utf-8")
