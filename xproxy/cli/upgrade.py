"""``xproxy upgrade``: a running proxy goes on in this installation, and no connection is closed by that."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from rich.live import Live

import xproxy
from xproxy.cli.upgrade_progress import Progress, line
from xproxy.config.units import parse_duration
from xproxy.supervisor import control_path, messages

_ENVIRONMENT: Final = (
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "VIRTUAL_ENV",
)
"""What of the environment belongs to an installation; all else the new one has from the old one."""
_PATIENCE: Final = 600.0
"""Seconds without a word from the supervisor after which it counts as lost."""


class Lost(Exception):
    """There is nobody to talk to; says why."""


class Talk:
    """A conversation with a supervisor."""

    def __init__(self, path: str) -> None:
        """Raises Lost."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(path)
        except OSError as exc:
            self._socket.close()
            raise Lost(f"no proxy answers at {path}: {exc.strerror or exc}") from exc

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, message: Mapping[str, object]) -> None:
        """Send a question. Raises Lost."""
        try:
            messages.send(self._socket, message)
        except (OSError, ValueError) as exc:
            raise Lost(str(exc)) from exc

    def hear(self, until: str) -> Iterator[dict[str, Any]]:  # Any: JSON
        """Give what is said, up to the first message of that kind. Raises Lost."""
        while True:
            ready, _, _ = select.select([self._socket], [], [], _PATIENCE)
            try:
                heard = messages.receive(self._socket) if ready else None
            except (OSError, ValueError) as exc:
                raise Lost(str(exc)) from exc
            if heard is None:
                raise Lost("the supervisor has ended" if ready else "the supervisor says nothing")
            message, found = heard
            messages.close_all(found)
            yield message
            if message["kind"] == until:
                return


@click.command()
@click.option("--pid", type=int, metavar="PID", help="The proxy's pid, where several run.")
@click.option("--control", metavar="PATH", help="Its control socket, where it has one of its own.")
@click.option("-c", "--config", "path", metavar="FILE", help="Another configuration file.")
@click.option(
    "--check", is_flag=True, help="Only start the new one, see that it could serve, end it."
)
@click.option(
    "--confirm",
    metavar="DURATION",
    help="Go back to what runs now, unless --confirmed is said within it: 60s.",
)
@click.option("--confirmed", is_flag=True, help="Keep what --confirm made wait.")
@click.option(
    "--abort",
    is_flag=True,
    help="Give up the upgrade under way; or go back, before it is confirmed.",
)
@click.option(
    "--cut-oldest", is_flag=True, help="End the oldest one, where too many still serve something."
)
@click.option("--status", is_flag=True, help="Only show which processes there are.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each line.")
def upgrade(
    pid: int | None,
    control: str | None,
    path: str | None,
    check: bool,
    confirm: str | None,
    confirmed: bool,
    abort: bool,
    cut_oldest: bool,
    status: bool,
    as_json: bool,
) -> None:
    """Let a running proxy go on in this installation of xproxy.

    It is started with the options of the running one. Until it serves, whatever goes wrong changes nothing. Exit code
    0: it serves; 2: its configuration is wrong; 1: anything else.
    """
    seconds = _seconds(confirm)
    try:
        with Talk(control or _find(pid)) as talk:
            if status or confirmed or abort:
                _ask_one(talk, "status" if status else "abort" if abort else "confirm", as_json)
                return
            talk.ask({"kind": "status"})
            (known,) = talk.hear("status")
            tail = run_options(known["arguments"], path)
            talk.ask(
                {
                    "kind": "upgrade",
                    "executable": sys.executable,
                    **installation(tail),
                    "check": check,
                    "confirm": seconds,
                    "cut_oldest": cut_oldest,
                }
            )
            begun = time.monotonic()
            progress = Progress()
            message = _follow(talk.hear("done"), progress, as_json=as_json)
            if not as_json:
                _conclude(message, progress, time.monotonic() - begun, check=check)
    except Lost as exc:
        raise click.ClickException(str(exc)) from exc
    if message["code"]:
        sys.exit(2 if message["code"] == 2 else 1)


def _seconds(text: str | None) -> int:
    if text is None:
        return 0
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--confirm") from exc
    if seconds < 1:
        raise click.BadParameter("it takes at least a second", param_hint="--confirm")
    return int(seconds)


def _find(pid: int | None) -> str:
    found = control_path.find(os.environ, os.geteuid())
    if pid is not None:
        if pid not in found:
            raise Lost(f"pid {pid} has no control socket that is ours; there are {_names(found)}")
        return found[pid]
    alive = {one: path for one, path in found.items() if os.path.exists(f"/proc/{one}")}
    if len(alive) != 1:
        raise Lost(f"which proxy? --pid or --control; there are {_names(alive)}")
    return next(iter(alive.values()))


def _names(found: Mapping[int, str]) -> str:
    return ", ".join(map(str, sorted(found))) or "none"


def run_options(arguments: Sequence[str], path: str | None) -> list[str]:
    """Return the options of ``xproxy run`` from the running one's command line, with another file if there is one.

    Raises UsageError where it has no file.
    """
    tail = list(arguments[list(arguments).index("run") + 1 :]) if "run" in arguments else []
    if path is None:
        return tail
    wanted = os.path.abspath(path)
    for n, word in enumerate(tail):
        if word in ("-c", "--config") and n + 1 < len(tail):
            return [*tail[: n + 1], wanted, *tail[n + 2 :]]
        if word.startswith("--config="):
            return [*tail[:n], f"--config={wanted}", *tail[n + 1 :]]
        if word.startswith("-c") and not word.startswith("--"):
            return [*tail[:n], f"-c{wanted}", *tail[n + 1 :]]
    raise click.UsageError("the running proxy has no configuration file that another could replace")


def installation(tail: Sequence[str]) -> dict[str, object]:
    """Return how this installation is started, and what of the environment it needs."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    root = str(Path(xproxy.__file__).resolve().parents[1])
    if sys.path and os.path.abspath(sys.path[0] or ".") == root:
        # Run out of its source folder, which the supervisor need not be in.
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{before}" if before else root
    return {
        # Whatever is in the supervisor's folder is not meant.
        "arguments": ["-P", "-m", "xproxy", "run", *tail],
        "environment": environment,
        "absent": [name for name in _ENVIRONMENT if name not in environment],
    }


def _ask_one(talk: Talk, kind: str, as_json: bool) -> None:
    talk.ask({"kind": kind})
    (answer,) = talk.hear("status" if kind == "status" else "done")
    if as_json:
        click.echo(json.dumps(answer))
    elif kind == "confirm":
        _tell_supervisor(answer)
    elif kind == "status":
        for worker in answer["workers"]:
            click.echo(
                f"generation {worker['generation']} worker {worker['worker']}"
                f" pid {worker['pid']} {worker['phase']}"
            )
        if answer["unconfirmed"]:
            click.echo("waits for its confirmation (--confirmed)")
    if answer.get("code"):
        _fail(answer["why"], as_json)


def _fail(why: str, as_json: bool) -> NoReturn:
    if not as_json:
        click.echo(f"Error: {why}", err=True)
    sys.exit(1)


def _follow(
    heard: Iterator[dict[str, Any]], progress: Progress, *, as_json: bool
) -> dict[str, Any]:  # Any: JSON
    """Show how it goes, and return the last word: at a terminal as a table that changes, elsewhere line by line."""
    live = Live(progress.table(), transient=True) if sys.stdout.isatty() and not as_json else None
    message: dict[str, Any] = {}
    with live or nullcontext():
        for message in heard:
            if as_json:
                click.echo(json.dumps(message))
            elif message["kind"] == "progress":
                progress.note(message)
                if live is None:
                    click.echo(line(message))
                else:
                    live.update(progress.table())
    return message


def _conclude(
    done: Mapping[str, Any], progress: Progress, seconds: float, *, check: bool
) -> None:  # Any: JSON
    if done["code"]:
        click.echo(f"Error: {done['why']}", err=True)
        if check and progress.tried():
            click.echo(f"checked in {seconds:.1f} s{progress.tried()}")
    elif check:
        click.echo(f"checked in {seconds:.1f} s: the new one could serve{progress.tried()}")
    else:
        _tell_supervisor(done)
        older = f"; still alive: {', '.join(map(str, done['older']))}" if done["older"] else ""
        waits = f"; say --confirmed within {done['confirm']} s" if done["confirm"] else ""
        remark = f"; {done['why']}" if done.get("why") else ""
        click.echo(
            f"upgraded in {seconds:.1f} s: generation {done['generation']} serves"
            f"{progress.summary()}{older}{remark}{waits}"
        )


def _tell_supervisor(done: Mapping[str, Any]) -> None:  # Any: JSON
    how = done.get("supervisor")
    if how == "renewed":
        click.echo("the supervisor goes on in it, too")
    elif how == "kept":
        click.echo(f"Warning: the supervisor stays as it was: {done['supervisor_why']}", err=True)
