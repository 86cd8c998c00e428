"""``xproxy codecs`` and ``xproxy filters``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from xproxy.cli import plugins
from xproxy.cli.main import main
from xproxy.registry import CODECS, FILTERS, Entry, Registry


def test_codecs() -> None:
    rows = json.loads(CliRunner().invoke(main, ["codecs", "--json"]).stdout)
    names = [row["name"] for row in rows]
    assert names.index("bolt") < names.index("http1") < names.index("opaque"), "in order of rank"
    bolt = rows[names.index("bolt")]
    assert bolt["distribution"].startswith("xproxy ")
    assert (bolt["api"], bolt["sharing"]) == (1, "messages")
    assert {"heartbeat", "snapshot", "oneway", "reverse requests"} <= set(bolt["capabilities"])
    assert rows[names.index("http1")]["alpn"] == ["http/1.1"]
    assert "max_settings" in rows[names.index("http2")]["options"]
    assert "grpc" in rows[names.index("http2")]["dialects"]
    assert bolt["options"] == ["strict_target"]


def test_filters() -> None:
    rows = json.loads(CliRunner().invoke(main, ["filters", "--json"]).stdout)
    by_name = {row["name"]: row for row in rows}
    assert by_name["direct_response"]["capabilities"] == ["answers by itself"]
    assert "attempts" in by_name["retry"]["options"]
    assert all(row["summary"] for row in rows)


@pytest.mark.parametrize("command", ["codecs", "filters"])
def test_tables(command: str) -> None:
    result = CliRunner().invoke(main, [command])
    assert result.exit_code == 0
    rows = json.loads(CliRunner().invoke(main, [command, "--json"]).stdout)
    for row in rows:
        assert f" {row['name']} " in result.stdout


def test_a_broken_plugin_is_named_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(group: str, name: str, module: str, attribute: str) -> Entry:
        return Entry(
            group=group,
            name=name,
            distribution="else",
            version="2",
            module=module,
            attribute=attribute,
        )

    registry = Registry(
        [
            entry(CODECS, "gone", "nowhere.at.all", "PLUGIN"),
            entry(CODECS, "bolt", "xproxy.codecs.bolt.plugin", "PLUGIN"),
            entry(FILTERS, "odd", "xproxy.registry", "default_registry"),
        ]
    )
    monkeypatch.setattr(plugins, "default_registry", lambda: registry)
    bolt, gone = json.loads(CliRunner().invoke(main, ["codecs", "--json"]).stdout)
    assert bolt["distribution"] == "else 2"
    assert "cannot be imported" in gone["broken"]
    (odd,) = json.loads(CliRunner().invoke(main, ["filters", "--json"]).stdout)
    assert odd["broken"].endswith("cannot be used: it is no attrs class")
    monkeypatch.setattr(plugins, "default_registry", lambda: Registry([]))
    assert CliRunner().invoke(main, ["codecs"]).stderr == "no codecs are installed\n"
