"""The supervisor goes on in another program; its workers are no proxies. With real ones: tests/process."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.product import PATIENCE, eventually
from tests.supervisor.test_supervisor import Supervised, supervised
from tests.supervisor.test_upgrading import ask, asking, hear, request, serving, upgrade
from xproxy.supervisor import memory, messages
from xproxy.supervisor.log import Log
from xproxy.supervisor.loop import Loop
from xproxy.supervisor.renewal import Renewal, Renewed, Written
from xproxy.supervisor.table import Command

_FOREVER = "import time; time.sleep(600)"

pytestmark = pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="needs /proc")


@pytest.fixture(autouse=True)
def _runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Another interpreter, as far as its path says."""
    path = tmp_path / "other-python"
    path.symlink_to(os.path.realpath(sys.executable))
    return str(path)


def renew(found: Supervised, other: str, *options: str, **more: object) -> dict[str, Any]:
    return ask(found, **{**request(found, *options), "executable": other}, **more)


def program(found: Supervised) -> str:
    """Return the interpreter that the supervisor runs in, as it was called."""
    return Path(f"/proc/{found.process.pid}/cmdline").read_text().partition("\0")[0]


def descriptors(found: Supervised) -> list[str]:
    folder = f"/proc/{found.process.pid}/fd"
    kinds = (os.readlink(f"{folder}/{one}") for one in os.listdir(folder))
    return sorted(re.sub(r"\[\d+\]", "", kind) for kind in kinds)


def test_it_goes_on_as_the_same_process_and_nothing_is_forgotten(
    tmp_path: Path, other: str
) -> None:
    with supervised(tmp_path, "workers=2", "listen=127.0.0.1:0", "lingers=1") as found:
        found.wait_for("start", 2)
        first = set(found.workers)
        before = descriptors(found)
        done = renew(found, other, "workers=2", "listen=127.0.0.1:0")
        assert (done["code"], done["generation"], done["supervisor"]) == (0, 2, "renewed")
        assert program(found) == other
        assert found.process.poll() is None, "its pid is what it was"
        assert [w["generation"] for w in serving(found)] == [2, 2]
        ((_, port),) = found.heard("start")[-1]["sockets"]
        # One that dies is started again, by the command of its generation and with its socket.
        dead = serving(found)[1]
        os.kill(dead["pid"], signal.SIGKILL)
        with socket.create_connection(("127.0.0.1", port), PATIENCE):
            eventually(
                lambda: (
                    dead["pid"] not in [w["pid"] for w in serving(found)]
                    and len(serving(found)) == 2
                ),
                "it is started again",
            )
        # An upgrade follows, and goes on counting; those that linger of the first are known still.
        assert upgrade(found, "workers=2", "listen=127.0.0.1:0")["generation"] == 3
        assert program(found) == sys.executable
        assert first <= set(found.workers)
        assert set(descriptors(found)) == set(before)
        assert {one for one in descriptors(found) if "memfd" in one} == set()
        assert found.end() == 0
        assert not any("Traceback" in line for line in found.said())


def test_what_is_the_same_is_not_executed(tmp_path: Path) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        done = upgrade(found)
        assert (done["code"], done["supervisor"]) == (0, "same")
        assert done["supervisor_why"] == "code and interpreter are those that run"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("trying=raises",), "the new one has ended with exit code 1 in its self-test"),
        (
            ("trying=version",),
            "the new one could not: ValueError: the state has version 1, known is 99",
        ),
        (("resuming=raises",), "the new one could not: ImportError: half installed"),
        (
            ("resuming=version",),
            "the new one could not: ValueError: the state has version 1, known is 99",
        ),
    ],
)
def test_one_that_cannot_go_on_leaves_the_former_and_one_reason(
    options: tuple[str, ...], why: str, tmp_path: Path, other: str
) -> None:
    with supervised(tmp_path, "workers=2", "listen=127.0.0.1:0") as found:
        found.wait_for("start", 2)
        before = descriptors(found)
        done = renew(found, other, "workers=2", "listen=127.0.0.1:0", *options)
        assert (done["code"], done["supervisor"], done["supervisor_why"]) == (0, "kept", why)
        assert program(found) == sys.executable
        assert [line for line in found.said() if "stays" in line] == [
            f"the supervisor stays as it was: {why}"
        ]
        (one, _) = serving(found)
        os.kill(one["pid"], signal.SIGKILL)
        eventually(
            lambda: (
                one["pid"] not in [w["pid"] for w in serving(found)] and len(serving(found)) == 2
            ),
            "one that dies is started again",
        )
        assert upgrade(found, "workers=2", "listen=127.0.0.1:0")["supervisor"] == "same"
        assert set(descriptors(found)) == set(before)
        assert found.end() == 0


def test_nothing_that_happens_meanwhile_is_lost(tmp_path: Path, other: str) -> None:
    there = tmp_path / "there"
    with (
        supervised(tmp_path, "workers=2") as found,
        asking(found) as client,
        asking(found) as silent,
    ):
        found.wait_for("start", 2)
        again = request(found, "workers=2", "resuming=waits", f"for={there}")
        messages.send(client, {**again, "executable": other})
        eventually(lambda: program(found) == other, "it is executed")
        (dead, alive) = (w["pid"] for w in hear_workers(found, 2))
        os.kill(dead, signal.SIGKILL)
        found.process.send_signal(signal.SIGHUP)
        messages.send(silent, {"kind": "status"})
        there.touch()
        assert hear(client)["supervisor"] == "renewed"
        assert hear(silent, "status")["generation"] == 2
        eventually(
            lambda: dead not in [w["pid"] for w in serving(found)] and len(serving(found)) == 2,
            "one that has died is started again",
        )
        assert alive in {one["pid"] for one in found.wait_for("reload")}
        assert found.end() == 0


def hear_workers(found: Supervised, generation: int) -> list[dict[str, Any]]:
    """Return what workers of a generation have been told first."""
    return [one for one in found.heard("welcome") if one["generation"] == generation]


def test_a_stop_meanwhile_is_not_lost(tmp_path: Path, other: str) -> None:
    there = tmp_path / "there"
    with supervised(tmp_path) as found, asking(found) as client:
        found.wait_for("start")
        again = request(found, "resuming=waits", f"for={there}")
        messages.send(client, {**again, "executable": other})
        eventually(lambda: program(found) == other, "it is executed")
        found.process.send_signal(signal.SIGTERM)
        there.touch()
        assert found.process.wait(PATIENCE) == 0
        assert hear(client)["supervisor"] == "renewed"
        assert [one["signal"] for one in found.heard("drain")][-1:] == ["SIGTERM"]


def test_those_that_wait_to_be_started_again_are(tmp_path: Path, other: str) -> None:
    there = tmp_path / "there"
    with supervised(tmp_path, "workers=2") as found:
        found.wait_for("start", 2)
        with asking(found) as client:
            again = request(found, "workers=2", "trying=waits", f"for={there}")
            messages.send(client, {**again, "executable": other})
            eventually(
                lambda: [w["generation"] for w in serving(found)] == [2, 2],
                "both of the next generation",
            )
            pids: set[int] = set()
            # The third has to wait for 0.2 s, and its turn comes in the next program.
            for _ in range(3):
                found_now = one_of(found, index=1, but=pids)
                pids.add(found_now)
                os.kill(found_now, signal.SIGKILL)
            eventually(lambda: any("again in 0.2 s" in line for line in found.said()), "the pause")
            there.touch()
            assert hear(client)["supervisor"] == "renewed"
        one_of(found, index=1, but=pids)
        # And the next pause is twice as long: how often it has ended is known still.
        os.kill(one_of(found, index=1, but=pids), signal.SIGKILL)
        eventually(lambda: any("again in 0.4 s" in line for line in found.said()), "the pause")
        assert found.end() in (0, 137)


def one_of(found: Supervised, *, index: int, but: set[int]) -> int:
    """Wait for a worker there that serves, and is none of those."""

    def there() -> list[int]:
        return [w["pid"] for w in serving(found) if w["worker"] == index and w["pid"] not in but]

    eventually(lambda: bool(there()), "another one there")
    return there()[0]


def test_a_program_that_is_gone_by_then(tmp_path: Path, other: str) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        done = renew(found, other, "trying=vanishes")
        assert done["supervisor"] == "kept"
        assert done["supervisor_why"] == f"cannot execute {other}: No such file or directory"
        found.process.send_signal(signal.SIGHUP)
        found.wait_for("reload")  # signals come through
        assert found.end() == 0


def test_one_at_a_time_and_an_end_meanwhile(tmp_path: Path, other: str) -> None:
    never = tmp_path / "never"
    with supervised(tmp_path) as found, asking(found) as client:
        found.wait_for("start")
        again = request(found, "trying=waits", f"for={never}")
        messages.send(client, {**again, "executable": other})
        eventually(lambda: found.heard("welcome")[-1]["generation"] == 2, "the next generation")
        eventually(lambda: [w["generation"] for w in serving(found)] == [2], "it serves")
        assert ask(found, kind="status")["upgrading"]
        assert upgrade(found)["why"] == "an upgrade is under way"
        assert "upgrade back" in ask(found, kind="abort")["why"]
        assert found.end() == 0
        done = hear(client)
        assert (done["code"], done["supervisor_why"]) == (0, "the proxy is ending")


def test_only_what_is_confirmed_becomes_the_supervisor(tmp_path: Path, other: str) -> None:
    with supervised(tmp_path) as found:
        found.wait_for("start")
        done = renew(found, other, confirm=600)
        assert (done["code"], done.get("supervisor")) == (0, None)
        assert program(found) == sys.executable
        assert ask(found, kind="confirm")["supervisor"] == "renewed"
        assert program(found) == other
        # What is taken back does not.
        assert upgrade(found, confirm=600)["code"] == 0
        assert ask(found, kind="abort")["code"] == 0
        eventually(lambda: [w["generation"] for w in serving(found)] == [4], "it went back")
        assert program(found) == other
        assert found.end() == 0


def outcome(command: Command, data: bytes = b"{}", patience: float = 60.0) -> Renewed:
    """Return what comes of a renewal by this command, which must not succeed: we are the process."""
    loop = Loop()
    found: list[Renewed] = []

    def over(renewed: Renewed) -> None:
        found.append(renewed)
        loop.stop()

    renewal = Renewal(loop, Log(), dict(os.environ), lambda: Written(data, []), over, patience)

    def reap(_: int) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            renewal.ended(pid, os.waitstatus_to_exitcode(status))

    before = signal.getsignal(signal.SIGCHLD)
    loop.signals([signal.SIGCHLD], reap)
    try:
        renewal.begin(command)
        while not found:
            loop.run()
        renewal.close()  # which is over already
    finally:
        loop.close()
        signal.signal(signal.SIGCHLD, before)
    return found[0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("/bin/true",), "the new one has ended with exit code 0 in its self-test"),
        (("/bin/false",), "the new one has ended with exit code 1 in its self-test"),
        (("/nowhere/python",), "cannot start /nowhere/python: No such file or directory"),
        ((sys.executable, "\0"), f"cannot start {sys.executable}: embedded null byte"),
    ],
)
def test_what_is_no_supervisor_at_all(arguments: tuple[str, ...], why: str) -> None:
    assert outcome(Command(arguments[0], arguments)) == Renewed("kept", why)


def test_one_that_hangs_in_its_self_test_is_ended() -> None:
    command = Command(sys.executable, (sys.executable, "-I", "-c", _FOREVER))
    why = "the new one was not done with its self-test within 0.2 s"
    assert outcome(command, patience=0.2) == Renewed("kept", why)
    # It has been killed: it ends, and there is nobody else.
    _, status = os.waitpid(-1, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_too_much_to_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_BYTES", 1)
    found = outcome(Command(sys.executable, (sys.executable,)))
    assert found.how == "kept"
    assert "what is to be left has 2 bytes, the limit is 1" in found.why
