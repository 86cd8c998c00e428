"""The command as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from xproxy.cli import plugins
from xproxy.cli.main import main
from xproxy.model.errors import PluginError
from xproxy.registry import Registry


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("run", "check", "demo", "codecs", "filters", "schema"):
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize("name", ["upgrade", "run"])
def test_a_command_imports_what_it_needs(name: str) -> None:
    code = (
        "import sys\n"
        "from xproxy.cli.main import main\n"
        f"main([{name!r}, '--help'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    imported = set(done.stderr.split())
    assert f"xproxy.cli.{name}" in imported
    absent = {"upgrade": ["trio", "xproxy.proxy", "xproxy.registry"], "run": ["rich.live"]}[name]
    assert not imported & {*absent, "xproxy.cli.demo.command", "xproxy.cli.check"}


def test_wrong_usage_is_2() -> None:
    assert CliRunner().invoke(main, ["nothing"]).exit_code == 2
    assert CliRunner().invoke(main, ["check"]).exit_code == 2


@pytest.mark.slow
def test_as_a_module() -> None:
    command = [sys.executable, "-m", "xproxy", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.startswith("xproxy, version ")


def test_plugins_that_claim_one_name_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Registry:
        raise PluginError("'bolt' is claimed twice")

    monkeypatch.setattr(plugins, "default_registry", refuse)
    result = CliRunner().invoke(main, ["codecs"])
    assert (result.exit_code, result.stderr) == (1, "Error: 'bolt' is claimed twice\n")
