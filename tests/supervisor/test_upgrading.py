"""Upgrades of workers that are no proxies, asked for at the control socket; of real ones: tests/process."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.process.product import PATIENCE, ROOT, eventually
from tests.supervisor import test_supervisor
from tests.supervisor.test_supervisor import Supervised, supervised
from xproxy.supervisor import messages
from xproxy.supervisor.upgrading import command_of

_WORKER: Final = str(Path(__file__).with_name("fake_worker.py"))


@pytest.fixture(autouse=True)
def _runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@contextmanager
def asking(found: Supervised) -> Iterator[socket.socket]:
    path = found.folder / "xproxy" / f"{found.process.pid}.sock"
    eventually(path.exists, "the control socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        yield client


def hear(client: socket.socket, kind: str = "done") -> dict[str, Any]:
    """Return the next message of this kind."""
    while True:
        heard = messages.receive(client)
        assert heard is not None, "it has hung up"
        if heard[0]["kind"] == kind:
            return heard[0]


def ask(found: Supervised, **message: object) -> dict[str, Any]:
    with asking(found) as client:
        messages.send(client, message)
        return hear(client, "status" if message["kind"] == "status" else "done")


def upgrade(found: Supervised, *options: str, **more: object) -> dict[str, Any]:
    return ask(found, **request(found, *options), **more)


def request(found: Supervised, *options: str) -> dict[str, Any]:
    return {
        "kind": "upgrade",
        "executable": sys.executable,
        "arguments": ["-I", _WORKER, str(found.folder), *options],
    }


def serving(found: Supervised) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = ask(found, kind="status")["workers"]
    return [worker for worker in workers if worker["phase"] == "serving"]


def test_all_workers_are_replaced_and_keep_their_sockets(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2", "listen=127.0.0.1:0") as found:
        before = {w["pid"]: w for w in found.wait_for("start", 2)}
        done = upgrade(found, "workers=2", "listen=127.0.0.1:0")
        assert (done["code"], done["generation"]) == (0, 2)
        now = serving(found)
        assert [(w["generation"], w["worker"]) for w in now] == [(2, 0), (2, 1)]
        ports = {str(one["sockets"]) for one in (*before.values(), *found.heard("listening"))}
        assert len(ports) == 1
        eventually(lambda: len(found.workers) == 2, "the old ones have ended")
        assert not any("unexpectedly" in line for line in found.said())
        assert found.end() == 0


def test_progress_is_told(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        with asking(found) as client:
            messages.send(client, request(found))
            steps = []
            while (message := hear_any(client))["kind"] != "done":
                steps.append(message)
    told = [(one["step"], one.get("moved")) for one in steps]
    assert told[0] == ("prepared", None)
    assert ("given", 3) in told
    assert told[-1] == ("replaced", None)


def hear_any(client: socket.socket) -> dict[str, Any]:
    heard = messages.receive(client)
    assert heard is not None
    return heard[0]


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("exits=2", "why=edge: unknown key"), 2, "edge: unknown key"),
        (("exits=1",), 1, "the new worker has ended with exit code 1 before it accepted"),
        (("exits=0",), 1, "the new worker has ended with exit code 0 before it accepted"),
        # Either the old one notices it first, or we do.
        (("dies_taking=1",), 1, "(worker 0 goes on as before: it has gone|.* exit code 137 .*)"),
    ],
)
def test_what_is_wrong_with_the_new_one_changes_nothing(
    options: tuple[str, ...], code: int, why: str, tmp_path: Path
) -> None:
    with supervised(tmp_path, "workers=2") as found:
        found.wait_for("start", 2)
        before = found.workers
        for _ in range(2):  # and it may be tried again
            done = upgrade(found, *options)
            assert done["code"] == code
            assert re.fullmatch(why, done["why"])
        eventually(lambda: found.workers == before, "the same processes")
        eventually(lambda: len(serving(found)) == 2, "both serve")
        assert upgrade(found, "workers=2")["code"] == 0
        assert found.end() == 0


def test_an_interpreter_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        done = ask(found, **{**request(found), "executable": "/nowhere/python"})
        assert (done["code"], done["why"]) == (
            1,
            "cannot start /nowhere/python: No such file or directory",
        )
        done = ask(found, **{**request(found), "executable": "/bin/true"})
        assert done["code"] == 1
        assert "exit code 0" in done["why"]
        assert len(serving(found)) == 1


def test_one_at_a_time_and_one_that_hangs_can_be_aborted(tmp_path: Path) -> None:
    with supervised(tmp_path) as found, asking(found) as first:
        found.wait_for("start")
        messages.send(first, request(found, "hangs=1"))
        eventually(lambda: ask(found, kind="status")["upgrading"], "it is under way")
        assert upgrade(found)["why"] == "an upgrade is under way"
        assert ask(found, kind="abort")["code"] == 0
        assert hear(first)["why"] == "aborted"
        assert ask(found, kind="abort")["why"] == "no upgrade is under way"
        assert len(serving(found)) == 1


def test_a_check_changes_nothing(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        assert upgrade(found, check=True)["code"] == 0
        assert [one["generation"] for one in serving(found)] == [1]
        assert upgrade(found, "exits=2", check=True)["code"] == 2


def test_without_a_confirmation_it_goes_back(tmp_path: Path) -> None:
    with supervised(tmp_path, "listen=127.0.0.1:0") as found:
        found.wait_for("start")
        assert upgrade(found, "workers=3", confirm=1)["confirm"] == 1
        assert upgrade(found)["why"] == "the last upgrade waits for its confirmation"
        eventually(lambda: [w["generation"] for w in serving(found)] == [3], "it went back to one")
        assert any("not confirmed within 1 s" in line for line in found.said())
        assert ask(found, kind="confirm")["why"] == "nothing waits for a confirmation"
        assert found.end() == 0


def test_confirmed_or_aborted(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        assert upgrade(found, confirm=600)["code"] == 0
        assert ask(found, kind="confirm")["code"] == 0
        assert upgrade(found, confirm=600)["code"] == 0
        assert ask(found, kind="abort")["code"] == 0
        eventually(lambda: [w["generation"] for w in serving(found)] == [4], "it went back")


def test_sigusr2_takes_what_is_installed_now(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        found.process.send_signal(signal.SIGUSR2)
        eventually(lambda: [w["generation"] for w in serving(found)] == [2], "the upgrade")


def test_too_many_that_still_serve_something(tmp_path: Path) -> None:
    with supervised(tmp_path, "lingers=1") as found:
        found.wait_for("start")
        (oldest,) = found.workers
        for _ in range(4):
            assert upgrade(found, "lingers=1")["code"] == 0
        done = upgrade(found)
        assert done["code"] == 1
        assert "4 older generations still serve something" in done["why"]
        assert f"the oldest is 1 (pid {oldest}: 2 http1)" in done["why"]
        assert upgrade(found, cut_oldest=True)["code"] == 0
        eventually(lambda: oldest not in found.workers, "the oldest was cut")


def test_each_older_one_gives_what_it_has_left_to_the_newest(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2", "lingers=1") as found:
        found.wait_for("start", 2)
        for generation in (2, 3):
            assert upgrade(found, "workers=2", "lingers=1")["code"] == 0
            newest = {w["pid"] for w in serving(found)}
            assert {w["generation"] for w in serving(found)} == {generation}
        # Two of the first generation, which is two older: the second gives to the third in any case.
        eventually(lambda: len(found.heard("took")) == 2, "they take what is left")
        assert {one["pid"] for one in found.heard("took")} == newest
        # One that takes the place of one that has died gets it, too: of both generations.
        os.kill(min(newest), signal.SIGKILL)
        eventually(lambda: len(found.heard("took")) == 4, "its successor takes what is left")
        assert len({one["pid"] for one in found.heard("took")[2:]} - newest) == 1
        assert found.end() == 0


def test_workers_go_back_where_one_of_them_cannot_be_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=3") as found:
        found.wait_for("start", 3)
        before = {w["worker"]: w for w in serving(found)}
        with asking(found) as client:
            messages.send(client, request(found, "workers=3", "fails=2", "why=no such disk"))
            heard = []
            while (message := hear_any(client))["kind"] != "done":
                heard.append(message)
        assert (message["code"], message["why"]) == (1, "no such disk; it went back")
        assert ("going back", "no such disk") in [(m["step"], m.get("why")) for m in heard]
        now = {w["worker"]: w for w in serving(found)}
        assert [now[index]["generation"] for index in range(3)] == [3, 3, 1]
        assert now[2]["pid"] == before[2]["pid"], "who was not replaced has noticed nothing"
        eventually(lambda: len(found.workers) == 3, "the others have ended")
        # And from there it goes on as ever.
        os.kill(now[2]["pid"], signal.SIGKILL)
        eventually(lambda: len(serving(found)) == 3, "it is started again")
        assert upgrade(found, "workers=3")["code"] == 0
        assert {w["generation"] for w in serving(found)} == {4}
        assert found.end() == 0


def test_a_way_back_that_fails_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with supervised(tmp_path, "workers=2", f"broken={broken}") as found:
        found.wait_for("start", 2)
        done = upgrade(found, "workers=2", "fails=1", f"breaks={broken}")
        assert done["code"] == 1
        assert "the way back has failed, too" in done["why"]
        now = {w["worker"]: w["generation"] for w in serving(found)}
        assert now == {0: 2, 1: 1}


def test_what_a_worker_says_it_serves_is_checked(tmp_path: Path) -> None:
    with supervised(tmp_path, "serves=1") as found:
        found.wait_for("start")
        eventually(
            lambda: any("cannot be talked to" in line for line in found.said()), "it is lost"
        )


def test_a_new_worker_that_dies_later_is_started_by_the_new_command(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        upgrade(found, "workers=1", "code=0")
        (now,) = serving(found)
        os.kill(now["pid"], signal.SIGKILL)
        eventually(
            lambda: [w["pid"] != now["pid"] for w in serving(found)] == [True], "a successor"
        )
        assert [w["generation"] for w in serving(found)] == [2]


def test_an_old_worker_that_takes_it_back_is_looked_after_as_before(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        (before,) = found.workers
        for _ in range(2):
            done = upgrade(found, "stalls=1")
            assert (done["code"], done["why"]) == (1, "worker 0 goes on as before: it has gone")
            assert [(w["generation"], w["pid"]) for w in serving(found)] == [(1, before)]
            assert done["generation"] == 1
        eventually(lambda: found.workers == [before], "the new ones have ended")
        os.kill(before, signal.SIGKILL)
        eventually(
            lambda: [w["pid"] for w in serving(found)] not in ([], [before]), "a successor serves"
        )
        assert upgrade(found)["code"] == 0


def test_an_old_worker_that_accepts_again_ends_when_a_successor_serves(tmp_path: Path) -> None:
    with supervised(tmp_path, "tails=1") as found:
        found.wait_for("start")
        (before,) = found.workers
        assert upgrade(found, "holds=1")["code"] == 0
        (now,) = serving(found)
        assert before in found.workers
        os.kill(now["pid"], signal.SIGKILL)
        eventually(lambda: before not in found.workers, "it was told to end")
        eventually(lambda: len(serving(found)) == 1, "a successor")
        assert [w["generation"] for w in serving(found)] == [2]


def _are_two_without(found: Supervised, pid: int) -> bool:
    pids = [worker["pid"] for worker in serving(found)]
    return len(pids) == 2 and pid not in pids


def test_an_old_worker_that_is_waiting_to_be_started_again_is_not(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2") as found:
        found.wait_for("start", 2)
        for _ in range(4):  # after so many there is a pause
            [pid] = [w["pid"] for w in serving(found) if w["worker"] == 1]
            os.kill(pid, signal.SIGKILL)
            eventually(partial(_are_two_without, found, pid), "both, and not that one")
        assert upgrade(found, "workers=2")["code"] == 0
        eventually(lambda: len(found.workers) == 2, "two, and no third")


# ---- somebody is stopped (SIGSTOP)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = "READY_SECONDS", "SILENCE", "ABORT_SECONDS"
    patch = "".join(f"upgrade.{name} = 1.0\n" for name in limits)
    text = f"from xproxy.supervisor import upgrade\n{patch}{test_supervisor._RUN}"
    monkeypatch.setattr(test_supervisor, "_RUN", text)


def goes_on(found: Supervised, pid: int) -> None:
    """See that it alone serves, and can be replaced."""
    os.kill(pid, signal.SIGCONT)
    assert [worker["pid"] for worker in serving(found)] == [pid]
    done = upgrade(found)
    assert (done["code"], done["why"]) == (0, "")
    eventually(lambda: found.workers == [w["pid"] for w in serving(found)], "it was replaced")
    assert found.end() == 0


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("check", [False, True])
def test_an_old_worker_that_is_stopped_is_not_waited_for(tmp_path: Path, check: bool) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        (before,) = found.workers
        os.kill(before, signal.SIGSTOP)
        for _ in range(2):  # and hears of both when it goes on
            done = upgrade(found, check=check)
            why = f"the old worker 0 (pid {before}) is stopped for 1 s"
            assert (done["code"], done["why"]) == (1, why)
        goes_on(found, before)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("hangs=1", "the new worker was not ready within 1 s"),
        ("stops=1", r"the new worker 0 \(pid \d+\) is stopped for 1 s"),
    ],
)
def test_a_new_worker_that_is_stopped_is_ended(tmp_path: Path, option: str, why: str) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        (before,) = found.workers
        done = upgrade(found, option)
        assert done["code"] == 1
        assert re.fullmatch(why, done["why"])
        goes_on(found, before)


@pytest.mark.usefixtures("_impatient")
def test_an_old_worker_that_is_stopped_while_it_gives_does_not_hold_up_others(
    tmp_path: Path,
) -> None:
    with supervised(tmp_path, "workers=2", "pauses=1") as found:
        before = [w["pid"] for w in found.wait_for("start", 2)]
        done = upgrade(found, "workers=2")
        assert done["code"] == 0
        assert sorted(re.findall(r"\(pid (\d+)\) is stopped", done["why"])) == sorted(
            map(str, before)
        )
        assert {w["generation"] for w in serving(found)} == {2}
        for pid in before:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: len(found.workers) == 2, "they have given what they had")
        assert found.end() == 0


@pytest.mark.usefixtures("_impatient")
def test_aborted_while_the_new_one_does_not_accept(tmp_path: Path) -> None:
    with supervised(tmp_path) as found, asking(found) as first:
        found.wait_for("start")
        (before,) = found.workers
        messages.send(first, request(found, "stops=1"))
        assert hear(first, "progress")["step"] == "prepared"
        assert ask(found, kind="abort")["code"] == 0
        assert hear(first)["why"] == "aborted"
        goes_on(found, before)


def test_aborted_while_connections_move_it_goes_back_when_they_have(tmp_path: Path) -> None:
    with supervised(tmp_path, "pauses=1") as found, asking(found) as first:
        found.wait_for("start")
        (before,) = found.workers
        messages.send(first, request(found, "lingers=1"))
        while hear(first, "progress")["step"] != "accepting":
            pass
        assert ask(found, kind="abort")["code"] == 0
        assert [w["generation"] for w in serving(found)] == [2], "it is not cut off"
        state = Path(f"/proc/{before}/stat")
        eventually(lambda: ") T " in state.read_text(), "the old one pauses")
        os.kill(before, signal.SIGCONT)
        done = hear(first)
        assert (done["code"], done["why"]) == (1, "aborted; it went back")
        assert done["generation"] == 3
        assert [w["generation"] for w in serving(found)] == [3]
        assert ask(found, kind="abort")["why"] == "no upgrade is under way"
        assert found.end() == 0


def test_questions_that_are_none(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        assert "not known" in ask(found, kind="dance")["why"]
        with asking(found) as client:
            messages.send(client, {"kind": "upgrade", "executable": "python", "arguments": []})
            assert messages.receive(client) is None
        assert len(serving(found)) == 1


def test_a_control_socket_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL", "/nowhere/control")
    with supervised(tmp_path) as found:
        assert found.process.wait(PATIENCE) == 1
        assert "there is no control socket at /nowhere/control" in found.said()[0]


@pytest.mark.parametrize(
    "message",
    [
        {"executable": "/p"},
        {"executable": "p", "arguments": []},
        {"executable": "/p", "arguments": [1]},
        {"executable": "/p", "arguments": ["a\0b"]},
        {"executable": "/p", "arguments": ["\ud800"]},
        {"executable": "/\ud800", "arguments": []},
        {"executable": "/p", "arguments": [], "environment": {"A=B": "C"}},
        {"executable": "/p", "arguments": [], "environment": {"": "C"}},
        {"executable": "/p", "arguments": [], "environment": []},
        {"executable": "/p", "arguments": [], "environment": {"A": 1}},
        {"executable": "/p", "arguments": [], "absent": {}},
        {"arguments": []},
    ],
    ids=repr,
)
def test_commands_that_are_none(message: Mapping[str, object]) -> None:
    with pytest.raises(ValueError):
        command_of({"kind": "upgrade", **message})


def test_a_command() -> None:
    found = command_of(
        {
            "kind": "upgrade",
            "executable": "/p",
            "arguments": ["-m", "x"],
            "environment": {"A": "b"},
            "absent": ["C"],
        }
    )
    assert found.arguments == ("/p", "-m", "x")
    assert found.environment_of({"C": "d", "E": "f"}) == {"A": "b", "E": "f"}


def test_its_folder_may_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.setattr(test_supervisor, "ROOT", release)
    with supervised(tmp_path, PYTHONPATH=str(ROOT)) as found:
        found.wait_for("start")
        release.rmdir()
        assert ask(found, kind="status")["directory"] == ""
        assert upgrade(found)["code"] == 0
        assert found.end() == 0


def test_a_signal_while_a_worker_follows_another_is_no_failure(tmp_path: Path) -> None:
    with supervised(tmp_path, "workers=2") as found, asking(found) as client:
        found.wait_for("start", 2)
        messages.send(client, request(found, "workers=2", "hangs_at=1"))
        while hear_any(client).get("step") != "replaced":  # the first of them
            pass
        found.wait_for("welcome", 4)
        assert found.end() == 0


def test_no_worker_is_started_by_an_upgrade_when_the_proxy_is_ending(tmp_path: Path) -> None:
    """The first one has been told to give when the signal comes, and has not said that it has."""
    with supervised(tmp_path, "workers=2", "pauses=1") as found, asking(found) as client:
        first = min(found.wait_for("start", 2), key=lambda one: one["pid"])["pid"]
        messages.send(client, request(found, "workers=2"))
        stat = Path(f"/proc/{first}/stat")
        eventually(lambda: stat.read_text().rpartition(") ")[2][0] == "T", "it pauses")
        found.process.send_signal(signal.SIGTERM)
        found.wait_for("drain")
        os.kill(first, signal.SIGCONT)
        assert found.process.wait(PATIENCE) == 0
        assert len(found.heard("welcome")) == 3
        assert hear(client)["why"] == "the proxy is ending"
