"""Another process takes over; the workers are no proxies. With real ones: tests/process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.process.product import PATIENCE, eventually
from tests.supervisor.test_supervisor import Supervised, supervised
from tests.supervisor.test_upgrading import hear, request
from xproxy.supervisor import control_path, messages
from xproxy.supervisor.successor import CannotTakeOver, path_of

_TAKE_OVER: Final = """
import os, sys
from xproxy.supervisor.successor import Successor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command
given = Given(os.environ, os.getpid())
command = Command(sys.executable, (sys.executable, "-I", *sys.argv[1:]))
sys.exit(Successor(command, dict(os.environ), given).run(["--control", os.environ["FORMER"]]))
"""


@pytest.fixture(autouse=True)
def _runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def control_of(found: Supervised) -> Path:
    return found.folder.parent / "xproxy" / f"{found.process.pid}.sock"


@contextmanager
def asking(path: Path) -> Iterator[socket.socket]:
    eventually(path.exists, "the control socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        yield client


def ask(path: Path, **message: object) -> dict[str, Any]:
    with asking(path) as client:
        messages.send(client, message)
        return hear(client, "status" if message["kind"] == "status" else "done")


def upgrade(found: Supervised, *options: str) -> dict[str, Any]:
    return ask(control_of(found), **request(found, *options))


def serving(path: Path) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = ask(path, kind="status")["workers"]
    return [worker for worker in workers if worker["phase"] == "serving"]


@contextmanager
def former(folder: Path, *options: str, **environment: str) -> Iterator[Supervised]:
    (folder / "former").mkdir()
    with supervised(folder / "former", *options, **environment) as found:
        found.wait_for("start")
        yield found


@contextmanager
def successor(
    found: Supervised, *options: str, name: str = "next", path: Path | None = None
) -> Iterator[Supervised]:
    folder = found.folder.parent / name
    folder.mkdir()
    where = str(path or control_of(found))
    with supervised(folder, *options, script=_TAKE_OVER, FORMER=where) as following:
        yield following


def is_restarted(found: Supervised, dead: int) -> bool:
    pids = [worker["pid"] for worker in serving(control_of(found))]
    return len(pids) == 2 and dead not in pids


def test_all_goes_to_the_other_process(tmp_path: Path) -> None:
    options = ("workers=2", "listen=127.0.0.1:0")
    with former(tmp_path, *options) as one:
        ((_, port),) = one.wait_for("start", 2)[-1]["sockets"]
        with successor(one, *options) as two:
            assert one.process.wait(PATIENCE) == 0, "it ends with its workers"
            assert not control_of(one).exists()
            eventually(control_of(two).exists, "it is found by its own pid")
            now = serving(control_of(two))
            assert {w["pid"] for w in now} == set(two.workers)
            # It looks after its workers, and has the sockets.
            os.kill(now[0]["pid"], signal.SIGKILL)
            with socket.create_connection(("127.0.0.1", port), PATIENCE):
                eventually(partial(is_restarted, two, now[0]["pid"]), "it is started again")
            two.process.send_signal(signal.SIGHUP)
            two.wait_for("reload", 2)
            assert upgrade(two, *options)["generation"] == 3
            # And it is taken over in turn.
            with successor(two, *options, name="third") as three:
                assert two.process.wait(PATIENCE) == 0
                eventually(lambda: len(serving(control_of(three))) == 2, "both serve")
                assert {w["generation"] for w in serving(control_of(three))} == {4}
                with socket.create_connection(("127.0.0.1", port), PATIENCE):
                    pass
                assert three.end() == 0
            assert not list((tmp_path / "xproxy").iterdir())


def test_former_workers_that_go_on_are_known_there_and_children_here(tmp_path: Path) -> None:
    with former(tmp_path, "lingers=1") as one:
        (old,) = one.workers
        with successor(one, "workers=1") as two:
            eventually(lambda: control_of(two).exists(), "it goes on")
            assert one.process.poll() is None
            assert one.workers == [old]
            # What it has left goes to the newest, also by a later upgrade.
            assert upgrade(two, "workers=1")["code"] == 0
            newest = serving(control_of(two))[0]["pid"]
            eventually(
                lambda: newest in [w["pid"] for w in two.heard("took")], "it takes what is left"
            )
            one.process.send_signal(signal.SIGTERM)
            one.wait_for("drain")
            assert one.process.wait(PATIENCE) == 0
            eventually(
                lambda: (
                    {w["pid"] for w in ask(control_of(two), kind="status")["workers"]}
                    == set(two.workers)
                ),
                "its end is noticed",
            )
            assert two.end() == 0


def test_a_control_socket_of_its_own_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with (
        former(tmp_path, CONTROL=str(path)) as one,
        successor(one, path=path) as two,
    ):
        assert one.process.wait(PATIENCE) == 0
        eventually(lambda: ask(path, kind="status")["pid"] == two.process.pid, "it answers there")
        assert two.end() == 0
        assert not path.exists()


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("exits=2", "why=edge: unknown key"), 2, "edge: unknown key"),
        (("exits=1",), 1, "the new worker has ended with exit code 1 before it accepted"),
        (("workers=2", "fails=1", "why=no such disk"), 1, "no such disk; it went back"),
    ],
)
def test_one_that_cannot_leaves_the_former(
    options: tuple[str, ...], code: int, why: str, tmp_path: Path
) -> None:
    with former(tmp_path, "workers=2") as one:
        one.wait_for("start", 2)
        with successor(one, *options) as two:
            assert two.process.wait(PATIENCE) == code
            assert f"Error: {why}" in two.said()
        eventually(lambda: len(serving(control_of(one))) == 2, "both serve")
        eventually(lambda: len(one.workers) == 2, "which are its own")
        with successor(one, "workers=2", name="again"):
            assert one.process.wait(PATIENCE) == 0


def test_nobody_is_there(tmp_path: Path) -> None:
    with supervised(tmp_path, script=_TAKE_OVER, FORMER=str(tmp_path / "none")) as found:
        assert found.process.wait(PATIENCE) == 1
        (line,) = found.said()
        assert line == f"Error: no proxy answers at {tmp_path}/none: No such file or directory"


def test_one_at_a_time_and_given_up_by_a_signal(tmp_path: Path) -> None:
    with former(tmp_path) as one:
        with successor(one, "hangs=1") as two:
            eventually(lambda: ask(control_of(one), kind="status")["upgrading"], "it is under way")
            with successor(one, name="third") as three:
                assert three.process.wait(PATIENCE) == 1
                assert three.said() == ["Error: an upgrade is under way"]
            assert two.end() == 1
            assert two.said()[-1] == "Error: aborted"
        assert len(serving(control_of(one))) == 1
        assert one.end() == 0


def test_one_that_is_killed_while_its_worker_starts_changes_nothing(tmp_path: Path) -> None:
    with former(tmp_path) as one, successor(one, "hangs=1") as two:
        two.wait_for("welcome")
        two.process.kill()
        why = "the other supervisor has gone"
        eventually(lambda: any(line.endswith(why) for line in one.said()), "it is given up")
        assert [worker["generation"] for worker in serving(control_of(one))] == [1]
        assert upgrade(one)["code"] == 0
        assert one.end() == 0


def test_versions_that_do_not_understand_each_other(tmp_path: Path) -> None:
    with former(tmp_path) as one:
        done = ask(control_of(one), kind="takeover", v=1, state=99)
        assert done["code"] == 1
        assert "speaks versions (1, 1) of messages and state, not (1, 99)" in done["why"]
        assert not ask(control_of(one), kind="status")["upgrading"]


def test_one_that_dies_before_it_goes_on_leaves_the_former(tmp_path: Path) -> None:
    with former(tmp_path) as one, asking(control_of(one)) as client:
        messages.send(client, {"kind": "takeover", "v": 1, "state": 1})
        heard = messages.receive(client)
        assert heard is not None
        assert heard[0]["kind"] == "start"
        messages.close_all(heard[1])  # nobody is started: its control socket is at its end
        done = hear(client)
        assert done["code"] == 1
        assert len(serving(control_of(one))) == 1
        assert one.end() == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--control", "/a/b"], "/a/b"), (["-c", "x", "--control=/a/b"], "/a/b")],
)
def test_which_one(arguments: list[str], expected: str) -> None:
    assert path_of(["xproxy", "run", "--takeover", *arguments]) == expected


def test_which_one_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nor those that other tests run at the same time.
    monkeypatch.setattr(control_path, "folders", lambda *_: [str(tmp_path)])
    with pytest.raises(CannotTakeOver, match="--control; there are none"):
        path_of(["xproxy", "run", "--takeover"])
