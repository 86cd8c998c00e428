"""What holds for every test: tools are skipped by name, and nothing is left behind.

A test that leaves a file descriptor, a child process, a thread or a Trio task behind fails in its
teardown, with what it left. Fixtures of a wider scope may keep theirs until the session ends.
Unraisable errors and warnings fail by pytest's own means (``filterwarnings = error``).
"""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import settings

from tests.process.product import release_ports

# The same examples in every run; a busy machine may stall for longer than any useful deadline.
settings.register_profile("xproxy", deadline=None, derandomize=True, database=None)
settings.load_profile("xproxy")

REQUIRE_TOOLS = os.environ.get("XPROXY_REQUIRE_TOOLS") == "1"

_FDS = Path("/proc/self/fd")
_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children")

_Leftovers = frozenset[str]
_BEFORE = pytest.StashKey[_Leftovers]()
_KEPT: set[str] = set()
"""What fixtures of a wider scope hold."""


def _open_fds() -> _Leftovers:
    """Return ``fd 7 → socket:[123]`` for each open descriptor; empty where there is no /proc."""
    if not _FDS.is_dir():
        return frozenset()
    found = set()
    for fd in os.listdir(_FDS):
        try:
            found.add(f"fd {fd} → {os.readlink(_FDS / fd)}")
        except OSError:  # the descriptor of the listing itself is closed by now
            continue
    return frozenset(found)


def _children() -> _Leftovers:
    if not _CHILDREN.exists():
        return frozenset()
    return frozenset(f"child process {pid}" for pid in _CHILDREN.read_text().split())


def _threads() -> _Leftovers:
    # Trio keeps idle daemon threads for ten seconds: those are not leaks.
    return frozenset(f"thread {t.name}" for t in threading.enumerate() if not t.daemon)


def _held() -> _Leftovers:
    return _open_fds() | _children() | _threads()


def _left_since(before: _Leftovers) -> list[str]:
    left = _held() - before - _KEPT
    if left:
        gc.collect()  # garbage in a cycle is not a leak until it stays
        left = _held() - before - _KEPT
    return sorted(left)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Note what is open before the first fixture."""
    item.stash[_BEFORE] = _held()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object],
) -> Generator[None, object, object]:
    """Let fixtures that outlive a test keep what they open."""
    if fixturedef.scope == "function":
        return (yield)
    before = _held()
    try:
        return (yield)
    finally:
        _KEPT.update(_held() - before)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail the test that left something behind."""
    yield
    release_ports()
    if left := _left_since(item.stash[_BEFORE]):
        pytest.fail(f"left behind by {item.nodeid}: {', '.join(left)}", pytrace=False)


def _system_tasks() -> set[trio.lowlevel.Task]:
    """Return the tasks that no nursery of the test owns."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return {task for nursery in root.child_nurseries for task in nursery.child_tasks}


def _run_and_audit(
    main: Callable[[], Awaitable[object]],
    *,
    clock: trio.abc.Clock | None,
    instruments: Sequence[trio.abc.Instrument],
) -> object:
    """Run a test under Trio and fail if it spawned system tasks that outlive it."""

    async def audited() -> object:
        before = _system_tasks()
        result = await main()
        if left := sorted(task.name for task in _system_tasks() - before):
            pytest.fail(f"tasks left behind: {', '.join(left)}", pytrace=False)
        return result

    return trio.run(audited, clock=clock, instruments=instruments)


def _missing_tools(item: pytest.Item) -> list[str]:
    wanted = (tool for marker in item.iter_markers("tool") for tool in marker.args)
    return [tool for tool in wanted if shutil.which(tool) is None]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests whose tool is missing, or refuse to run; and give async tests our runner."""
    refused = []
    for item in items:
        if missing := _missing_tools(item):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))
            refused.append(f"{item.nodeid} needs {', '.join(missing)}")
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            # Before pytest-trio adds its own: the first such marker counts.
            item.add_marker(pytest.mark.trio(run=_run_and_audit))
    if refused and REQUIRE_TOOLS:
        raise pytest.UsageError("XPROXY_REQUIRE_TOOLS=1, but: " + "; ".join(refused))


def pytest_report_header() -> str:
    """Name the tools that are missing, so that a run says what it did not show."""
    tools = (
        "curl",
        "wrk",
        "h2load",
        "nghttp",
        "nginx",
        "openssl",
        "chromium",
        "gcc",
        "node",
        "npm",
        "redis-benchmark",
        "redis-cli",
        "redis-server",
        "thrift",
    )
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"xproxy: Trio {trio.__version__}, missing tools: {', '.join(missing) or 'none'}"
