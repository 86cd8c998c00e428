"""The file of a running proxy: a small one is read here, a large one elsewhere; what stays the same is the same."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest
import trio

from tests.live import eventually, registry
from xproxy.config.apart import command
from xproxy.config.findings import Finding, InvalidConfig
from xproxy.proxy.config_file import LARGE_BYTES, ConfigFile

_PATIENCE = 60.0
_SAYS_NOTHING = [sys.executable, "-c", "import sys; print('told', file=sys.stderr); sys.exit(3)"]


def text(weight: int, comment: str = "#" * LARGE_BYTES) -> str:
    return f"""
listeners: [{{name: edge, address: "127.0.0.1:0", routes: main}}]
routes: {{main: [{{hosts: [a.test], cluster: a}}, {{cluster: b}}]}}
clusters:
  a: {{endpoints: ["127.0.0.1:5"]}}
  b: {{endpoints: [{{address: "127.0.0.1:6", weight: {weight}}}]}}
{comment}
"""


@attrs.define(eq=False)
class Scene:
    """A file, and what was told of it; counts the processes that read it."""

    path: Path
    instead: list[str] | None = None
    processes: int = 0
    told: list[Finding] = attrs.field(factory=list)
    limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))

    def open(self, content: str) -> ConfigFile:
        self.path.write_text(content)
        return ConfigFile(self.path, registry(), self.tell, self.command)

    def tell(self, findings: Iterable[Finding]) -> None:
        self.told += findings

    def command(self, path: str) -> list[str]:
        self.processes += 1
        return self.instead or command(path)


def runs(told: Path) -> bool:
    """Whether there is a process, or what is left of one, of the number that a file names."""
    return Path("/proc", told.read_text()[:-1]).exists()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "x.yaml")


async def test_a_small_file_is_read_in_a_thread(scene: Scene) -> None:
    file = scene.open(text(1, ""))
    before = file.read()
    scene.path.write_text(text(2, ""))
    after = await file.read_again(scene.limiter)
    assert after.clusters["b"].endpoints[0].weight == 2
    assert (after.clusters["a"], scene.processes) == (before.clusters["a"], 0)


async def test_a_file_that_is_not_there_is_said(scene: Scene) -> None:
    file = scene.open(text(1, ""))
    file.read()
    scene.path.unlink()
    with pytest.raises(InvalidConfig, match="cannot be read"):
        await file.read_again(scene.limiter)


@pytest.mark.slow
async def test_of_a_large_file_only_what_has_changed_is_read(scene: Scene) -> None:
    file = scene.open(text(1).replace("{cluster: b}", "{cluster: b}, {cluster: a}"))
    last = file.read()
    for weight in (2, 3):
        told = len(scene.told)
        scene.path.write_text(text(weight))
        with trio.fail_after(_PATIENCE):
            config = await file.read_again(scene.limiter)
        assert config.clusters["b"].endpoints[0].weight == weight
        assert config.clusters["a"] is last.clusters["a"]
        assert config.checked_with is not None
        assert (config.routes["main"] is last.routes["main"]) is (weight == 3)
        assert scene.told[told:] == []
        last = config
    assert scene.processes == 2


@pytest.mark.slow
async def test_what_is_wrong_with_a_large_file_is_said_and_counts_for_nothing(scene: Scene) -> None:
    file = scene.open(text(1))
    before = file.read()
    scene.path.write_text(text(0))
    with trio.fail_after(_PATIENCE), pytest.raises(InvalidConfig, match=r"x\.yaml:6:.*weight"):
        await file.read_again(scene.limiter)
    scene.path.write_text(text(1))
    with trio.fail_after(_PATIENCE):
        after = await file.read_again(scene.limiter)
    assert after.clusters["b"] is before.clusters["b"]


@pytest.mark.slow
async def test_odd_things_are_told_each_time(scene: Scene) -> None:
    odd = text(1) + "  unused: {endpoints: ['127.0.0.1:7']}\n"
    file = scene.open(odd)
    file.read()
    with trio.fail_after(_PATIENCE):
        await file.read_again(scene.limiter)
    first, second = scene.told
    assert first == second


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        (_SAYS_NOTHING, "exit code 3: told"),
        ([sys.executable, "-c", "print('nonsense')"], "Expecting"),
        (["/there/is/no/such/program"], "No such file"),
    ],
)
async def test_where_the_other_process_fails_it_is_read_here(
    instead: list[str], why: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.instead = instead
    file = scene.open(text(1))
    file.read()
    scene.path.write_text(text(2))
    with trio.fail_after(_PATIENCE):
        config = await file.read_again(scene.limiter)
    assert config.clusters["b"].endpoints[0].weight == 2
    assert scene.processes == 1
    assert why in caplog.text


async def test_cancelling_ends_the_other_process(scene: Scene) -> None:
    told = scene.path.with_name("pid")
    program = (
        f"import os, time; open({str(told)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(99)"
    )
    scene.instead = [sys.executable, "-c", program]
    file = scene.open(text(1))
    file.read()
    with trio.fail_after(_PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.read_again, scene.limiter)
            await eventually(lambda: told.exists() and told.read_text().endswith("."), "its start")
            nursery.cancel_scope.cancel()
    assert not runs(told)
