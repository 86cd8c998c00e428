"""Processes below another, and the end of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from bench.takeover.processes import Leaving, descendants, sample, session, watching

PATIENCE = 60.0
_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.stdin.close()
child.wait()
print("ended", flush=True)
input()
"""


def test_a_child_is_found_watched_and_seen_to_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert descendants(parent.pid) == [child]
        leaving = Leaving([child])
        with watching(parent.pid) as watch:
            assert not leaving.wait(0.0)
            assert not leaving.ended
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "ended\n"
            assert leaving.wait(PATIENCE)
        assert max(leaving.ended.values()) == leaving.gone
        leaving.close()
        assert descendants(parent.pid) == []
        assert {one.pid for one in watch.samples} == {parent.pid, child}
        both = sum(s.rss_bytes for s in watch.samples[:2])
        assert watch.peak_bytes() >= both > watch.of([child]).rss_bytes > 0
        parent.stdin.write("\n")


def test_a_session_is_found_though_its_leader_has_ended() -> None:
    script = "tail -f /dev/null & echo $!; kill -KILL $$"
    with subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout is not None
        orphan = int(leader.stdout.readline())
        leader.wait()
        assert orphan in session(leader.pid)
        leaving = Leaving([orphan])
        os.kill(orphan, signal.SIGKILL)
        assert leaving.wait(PATIENCE)
        assert session(leader.pid) == []


def test_who_has_gone_already_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    leaving = Leaving([child.pid])
    assert leaving.wait(0.0)
    assert sample(child.pid) is None


def test_a_process_of_ours_has_figures() -> None:
    found = sample(os.getpid())
    assert found is not None
    assert found.rss_bytes > 1 << 20
    assert found.descriptors > 2
