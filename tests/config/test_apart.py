"""What the process says that reads a file for a proxy, and what the proxy makes of it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from xproxy.config.apart import answer, command, understand
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import read_file
from xproxy.registry import Registry

TEXT = """\
listeners: [{name: édge, address: "127.0.0.1:0", routes: main}]
routes: {main: [{cluster: a}]}
clusters: {a: {endpoints: ["127.0.0.1:5"]}, unused: {endpoints: ["127.0.0.1:6"]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(TEXT)
    return path


def said(path: Path, before: str, registry: Registry) -> bytes:
    out = io.BytesIO()
    answer(str(path), before.encode(), registry, out)
    return out.getvalue()


def test_text_warnings_and_changes_arrive(file: Path, registry: Registry) -> None:
    found = understand(said(file, TEXT.replace(":6", ":7"), registry))
    assert found.text == TEXT.encode()
    assert found.warnings == read_file(file, registry).warnings != ()
    kinds = [item[:2] for item in found.items]
    assert kinds[1:] == [["clusters", None], ["cluster", "unused"], ["table", "main"]]


@pytest.mark.parametrize("before", ["", "listeners: [", "- 1"])
def test_of_a_text_that_was_no_configuration_nothing_is_kept(
    before: str, file: Path, registry: Registry
) -> None:
    found = [item[0] for item in understand(said(file, before, registry)).items]
    assert found == ["top", "clusters", "cluster", "cluster", "table", "route"]


def test_what_is_wrong_is_said_as_the_loader_says_it(file: Path, registry: Registry) -> None:
    file.write_text(TEXT.replace("cluster: a", "cluster: b"))
    with pytest.raises(InvalidConfig) as wanted:
        read_file(file, registry)
    with pytest.raises(InvalidConfig) as found:
        understand(said(file, TEXT, registry))
    assert found.value.findings == wanted.value.findings
    assert found.value.omitted == wanted.value.omitted


@pytest.mark.parametrize(
    "nonsense", [b"", b"x\n", b"{}\n", b"[]\n", b"3\n", b'{"findings": [{}]}\n']
)
def test_what_is_no_answer_is_refused(nonsense: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer|Expecting"):
        understand(nonsense)


@pytest.mark.slow
def test_the_command_answers_and_finds_what_this_process_finds(file: Path) -> None:
    # Whatever is printed meanwhile is no part of it: the interpreter tells on stderr what it imports.
    done = subprocess.run(
        command(str(file)), input=TEXT.encode(), capture_output=True, check=True, cwd=file.parent
    )
    assert [item[0] for item in understand(done.stdout).items] == ["top", "clusters", "table"]
    assert command("x")[-1].split("\n") == sys.path
