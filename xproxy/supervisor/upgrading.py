"""Upgrades as they are asked for: at the control socket or by a signal; one at a time, confirmed or taken back."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Final

from xproxy.supervisor import control_path, messages
from xproxy.supervisor.control import Client, Control
from xproxy.supervisor.loop import Timer
from xproxy.supervisor.messages import flag, number, text
from xproxy.supervisor.succession import Succession
from xproxy.supervisor.table import Command, Phase, Worker, summary
from xproxy.supervisor.upgrade import Upgrade
from xproxy.supervisor.workers import Workers

MOST_CONFIRM: Final = 86_400
"""Seconds that a confirmation may take at most."""
_KILL_SECONDS: Final = 30.0
"""A new worker that was given up has so long to give back what it has taken, or to say that it does; or to end."""
_AGAIN_SECONDS: Final = 30.0
"""After which one that is to give what it has left, and could not, is asked again."""
_ELSEWHERE: Final = Command("the other supervisor", ())
_MOST_PROTOCOLS: Final = 64
"""That are told apart in what a worker says it serves."""


class Upgrading:
    """Of one supervisor."""

    def __init__(
        self,
        workers: Workers,
        changed: Callable[[], object],
        restart: Callable[[Worker, int], object],
        renew: Callable[[Command], object],
        succeeded_by: Callable[[Client], Succession],
    ) -> None:
        """``changed`` is called when other workers serve than before.

        ``restart`` starts a worker again that has ended, with its exit code. ``renew`` lets the supervisor go on by a
        command, too; ``renewed`` is called when it has, or why it does not. ``succeeded_by`` makes the succession of
        another supervisor.
        """
        self.most_generations = 4
        """Older generations that may be alive; with so many there is no further upgrade."""
        self._workers = workers
        self._changed = changed
        self._restart = restart
        self._renew = renew
        self._succeeded_by = succeeded_by
        self.finishing: tuple[Client | None, dict[str, object]] | None = None
        """While the supervisor is renewed, which is the last step: who is to be told what."""
        self._control: Control | None = None
        self._upgrade: Upgrade | None = None
        self._client: Client | None = None
        """Who has asked for the one under way."""
        self._before = 0
        """The generation that it follows."""
        self._undoing: tuple[int, str] | None = None
        """While workers go back to the command before: the exit code, and why it has come to that."""
        self._count_before = 0
        self._channels: dict[int, socket.socket] = {}
        """By new worker: the old one's end of the channel between them."""
        self._gives_to: dict[int, int] = {}
        """By worker, while it gives: the one that gets what it has left."""
        self._doomed: dict[int, Timer] = {}
        """By worker that was given up: when it is killed, unless it gives back what it has."""
        self._patience: Timer | None = None
        """For what the upgrade under way waits for."""
        self._confirm_seconds = 0
        self._confirming: Timer | None = None
        self._former = 0
        """While a confirmation is awaited: the generation whose command is taken up again without it."""

    # ---- the control socket

    def open(self, path: str) -> bool:
        """Open the control socket at ``path``, or where it is found by pid. Says whether the proxy may start."""
        if self._control is not None:
            return True
        log = self._workers.log
        try:
            where = path or control_path.place_for(os.getpid(), os.environ, os.geteuid())
            self._control = Control(self._workers.loop, where, self.asked, log)
        except (OSError, control_path.NoPlace) as exc:
            why = f"there is no control socket at {path or 'its usual place'}: {exc}"
            if path:
                log.error(why)
                return False
            log.warning(f"{why}; this proxy cannot be upgraded")
        return True

    def close(self, *, leave: bool = False) -> None:
        """Remove the control socket, and give up what is under way. ``leave``: it is somebody else's now."""
        if self._control is not None:
            self._control.close(leave=leave)
            self._control = None
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def asked(self, client: Client, message: dict[str, object]) -> None:
        """Do, or refuse, what somebody asks for at the control socket. Raises ValueError."""
        kind = message["kind"]
        if kind == "upgrade":
            self._asked_to_upgrade(client, message)
        elif kind == "takeover":
            self._asked_to_hand_over(client, message)
        elif kind in ("started", "resumed"):
            self._heard_successor(client, message)
        elif kind == "status":
            self._status(client)
        elif kind == "confirm":
            confirmed = self._confirming is not None
            self._stop_waiting()
            if confirmed:
                self._finish(client, {"kind": "done", "code": 0, "why": ""})
            else:
                _answer(client, False, "nothing waits for a confirmation")
        elif kind == "abort":
            self._abort(client)
        else:
            _answer(client, False, f"{str(kind)[:40]} is not known to this version")

    def _status(self, client: Client) -> None:
        workers = self._workers
        command = workers.commands.get(workers.newest)
        client.say(
            {
                "kind": "status",
                "v": messages.VERSION,
                "pid": os.getpid(),
                "generation": workers.newest,
                "upgrading": self._upgrade is not None or self.finishing is not None,
                "unconfirmed": self._confirming is not None,
                "arguments": list(command.arguments) if command is not None else [],
                "directory": _directory(),
                "workers": summary(list(workers.table.workers.values())),
            }
        )

    def _asked_to_upgrade(self, client: Client, message: Mapping[str, object]) -> None:
        command = command_of(message)
        confirm = min(number(message, "confirm", 0), MOST_CONFIRM)
        why = self._refusal(cut_oldest=flag(message, "cut_oldest"))
        if why:
            _answer(client, False, why)
            return
        self._begin(command, client, check=flag(message, "check"), confirm=confirm)

    def _asked_to_hand_over(self, client: Client, message: Mapping[str, object]) -> None:
        theirs = number(message, "v"), number(message, "state")
        ours = messages.VERSION, messages.STATE_VERSION
        why = self._refusal()
        if theirs != ours:
            why = (
                f"the running supervisor speaks versions {ours} of messages and state, not {theirs}"
            )
        if why:
            _answer(client, False, why)
            return
        client.gone = self._successor_gone
        self._begin(_ELSEWHERE, client, succession=self._succeeded_by(client))

    def _successor_gone(self) -> None:
        # Nobody would look after what it has started: better that nothing moves there.
        elsewhere, upgrade = self._workers.elsewhere, self._upgrade
        if upgrade is not None and elsewhere is not None and elsewhere[0] == upgrade.generation:
            upgrade.abort("the other supervisor has gone")

    def _heard_successor(self, client: Client, message: dict[str, object]) -> None:
        elsewhere = self._workers.elsewhere
        if elsewhere is None or elsewhere[1].client is not client:
            raise ValueError("it is no successor")
        if message["kind"] == "started":
            elsewhere[1].started(message)
        elif self.finishing is not None:
            elsewhere[1].resumed()

    def _abort(self, client: Client) -> None:
        if self._undoing is not None:
            _answer(client, False, "it goes back already")
        elif self._upgrade is not None:
            done = self._upgrade.abort()
            _answer(client, done, "connections have moved already: upgrade back")
        elif self.finishing is not None:
            _answer(client, False, "all workers are replaced already: upgrade back")
        elif self._confirming is not None:
            self._take_back("aborted")
            _answer(client, True, "")
        else:
            _answer(client, False, "no upgrade is under way")

    # ---- beginning

    def again(self, reason: str) -> None:
        """Upgrade by the command that is in force: what it finds may be newer."""
        workers = self._workers
        why = self._refusal()
        if why:
            workers.log.error(f"{reason}: no upgrade: {why}")
            return
        workers.log.info(f"{reason}: upgrading")
        self._begin(workers.commands[workers.newest], None)

    def _refusal(self, *, cut_oldest: bool = False) -> str:
        workers = self._workers
        serving = [one for one in workers.table.serving() if one.phase is Phase.SERVING]
        if workers.stopping:
            return "the proxy is ending"
        if self._upgrade is not None or self.finishing is not None:
            return "an upgrade is under way"
        if self._confirming is not None:
            return "the last upgrade waits for its confirmation"
        if not serving:
            return "the proxy is starting"
        leaving = [one for one in workers.table.workers.values() if one.phase is Phase.LEAVING]
        older = sorted({one.generation for one in leaving})
        if len(older) < self.most_generations:
            return ""
        oldest = [one for one in leaving if one.generation == older[0]]
        if cut_oldest:
            for worker in oldest:
                workers.drain(worker)  # one that gives what it has left is not ending yet
                workers.cut(worker)
            return ""
        who = ", ".join(map(_described, oldest))
        return (
            f"{len(older)} older generations still serve something (takeover.generations); the oldest is"
            f" {older[0]} ({who}): wait for it, or --cut-oldest"
        )

    def _begin(
        self,
        command: Command,
        client: Client | None,
        *,
        check: bool = False,
        confirm: int = 0,
        succession: Succession | None = None,
    ) -> None:
        workers = self._workers
        counts = [one.count for one in workers.table.serving() if one.phase is Phase.SERVING]
        self._count_before = max(counts, default=0)
        generation = max(workers.commands) + 1
        workers.commands[generation] = command
        if succession is not None:
            workers.elsewhere = generation, succession
        self._before = workers.newest
        workers.forget(
            generation
        )  # while a confirmation is awaited, nothing begins but the way back
        self._client = client
        self._confirm_seconds = 0 if check else confirm
        self._upgrade = Upgrade(self, generation, check=check)
        self._upgrade.begin()

    # ---- what happens to workers

    def has(self, worker: Worker) -> bool:
        """Say whether this is the new worker of the upgrade under way."""
        return self._upgrade is not None and worker is self._upgrade.new

    def prepared(self, worker: Worker) -> None:
        """It could accept."""
        if self._upgrade is not None:
            self._upgrade.prepared(worker)

    def reported(self, worker: Worker, message: Mapping[str, object]) -> None:
        """A worker says how a handover goes. Raises ValueError."""
        step = text(message, "step")
        serving = message.get("serving")
        if isinstance(serving, dict):
            worker.serving = _counts(serving)
        upgrade = self._upgrade
        if upgrade is not None and number(message, "to", upgrade.generation) < upgrade.generation:
            upgrade = None  # it could not say it before: it had been stopped
        if upgrade is not None:
            self._pass_on(worker, message)
            upgrade.reported(worker, step, text(message, "why", ""))
        if step == "given":
            self._spare(
                worker
            )  # what it has left ends there, in its patience, or is given as that becomes movable
        if step == "withdrawn" and worker.gives and worker.phase is Phase.LEAVING:
            # Who takes the place of the one that got it is asked when it serves; this is for whoever lives on.
            self._gives_to.pop(worker.id, None)
            self._workers.loop.after(_AGAIN_SECONDS, lambda: self._succeed_again(worker.index))

    def _pass_on(self, worker: Worker, message: Mapping[str, object]) -> None:
        shown = {name: value for name, value in message.items() if name not in ("kind", "to")}
        shown.update(index=worker.index, generation=worker.generation)
        self.tell(shown)

    def ended(self, worker: Worker, code: int) -> bool:
        """See Upgrade."""
        self._close_channel(worker)
        self._spare(worker)
        self._gives_to.pop(worker.id, None)
        upgrade = self._upgrade
        if upgrade is None:
            return False
        if worker is upgrade.new:
            self._workers.log.error(f"{worker} has ended with exit code {code}")
        return upgrade.ended(worker, code, worker.why)

    # ---- Acts

    def start_new(self, index: int, count: int) -> Worker | str:
        """See Acts."""
        assert self._upgrade is not None
        workers = self._workers
        if workers.stopping:
            return "the proxy is ending"
        try:
            ours, theirs = messages.pair()
        except OSError as exc:
            return f"there is no channel to be had: {exc.strerror or exc}"
        with theirs:
            channel = theirs if self._may_follow(index) else None
            found = workers.start(index, self._upgrade.generation, count, channel)
        if isinstance(found, str):
            ours.close()
            return found
        found.apart = self._upgrade.check
        if channel is None:
            ours.close()
        else:
            self._channels[found.id] = ours
        return found

    def old(self, index: int) -> Worker | None:
        """See Acts."""
        assert self._upgrade is not None
        for worker in self._workers.table.serving():
            older = worker.generation < self._upgrade.generation
            if older and worker.index == index and worker.phase is Phase.SERVING:
                return worker
        return None

    def _may_follow(self, index: int) -> bool:
        # By the time at which the new one is prepared, one that is about to be started may be there.
        return index in self._workers.restarts or bool(self._older(index))

    def _older(self, index: int) -> list[Worker]:
        assert self._upgrade is not None
        return [
            worker
            for worker in self._workers.table.serving()
            if worker.generation < self._upgrade.generation and worker.index == index
        ]

    def give(self, old: Worker, new: Worker, *, check: bool) -> None:
        """See Acts."""
        channel = self._channels.pop(new.id, None)
        link = self._workers.links.get(old.id)
        if channel is None:
            return
        with channel:  # where the old one has just ended, the new one notices by its end
            if link is not None:
                link.say(_order_to_give(new, check=check), [channel.fileno()])

    def serve(self, new: Worker) -> None:
        """See Acts."""
        self._close_channel(new)
        self._alone(new.index)
        self._workers.begun(new.generation)
        self._workers.serve(new)

    def wait(self, seconds: float) -> None:
        """See Acts."""
        upgrade = self._upgrade
        assert upgrade is not None
        self._stop_patience()
        self._patience = self._workers.loop.after(seconds, upgrade.late)

    def _stop_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def is_stopped(self, worker: Worker) -> bool:
        """See Acts."""
        try:
            with open(f"/proc/{worker.pid}/stat", encoding="ascii", errors="replace") as file:
                # proc_pid_stat(5): the name before may hold anything.
                return file.read().rpartition(") ")[2][:1] in ("T", "t")
        except OSError:
            return False

    def kill(self, new: Worker) -> None:
        """See Acts."""
        new.phase = Phase.LEAVING
        self._workers.kill(new, signal.SIGKILL)

    def drain(self, worker: Worker) -> None:
        """See Acts."""
        self._workers.drain(worker)

    def follow(self, old: Worker, new: Worker) -> None:
        """See Acts."""
        new.phase = Phase.SERVING
        old.phase = Phase.LEAVING
        old.gives = True
        self._gives_to[old.id] = new.id
        self._alone(new.index)
        self._workers.begun(new.generation)

    def succeed(self, new: Worker) -> None:
        """See Acts. Each has a channel of its own; one that gives to it already goes on as it does."""
        if new.phase is not Phase.SERVING or self._workers.stopping:
            return
        for old in list(self._workers.table.workers.values()):
            if old.gives and old.index == new.index and self._gives_to.get(old.id) != new.id:
                self._connect(old, new)

    def _connect(self, old: Worker, new: Worker, *, back: bool = False) -> None:
        giving, taking = self._workers.links.get(old.id), self._workers.links.get(new.id)
        if giving is None or taking is None:
            return
        try:
            ours, theirs = messages.pair()
        except OSError as exc:
            self._workers.log.warning(f"no channel from {old} to {new}: {exc.strerror or exc}")
            self._workers.loop.after(_AGAIN_SECONDS, lambda: self._succeed_again(new.index))
            return
        with ours, theirs:
            taking.say({"kind": "take"}, [theirs.fileno()])
            giving.say(_order_to_give(new, back=back), [ours.fileno()])
        self._gives_to[old.id] = new.id

    def _succeed_again(self, index: int) -> None:
        for worker in self._workers.table.serving():
            if worker.phase is Phase.SERVING and worker.index == index:
                self.succeed(worker)

    def take_back(self, old: Worker, new: Worker) -> None:
        """See Acts."""
        workers = self._workers
        workers.cancel_restart(new.index)
        old.phase = Phase.SERVING
        old.gives = False
        self._gives_to.pop(old.id, None)
        for worker in workers.table.of(new.generation):
            if worker.index == new.index and worker.phase is not Phase.LEAVING:
                worker.apart = True
                if worker is not new or not self._give_back(new, old):
                    workers.drain(worker)
                self._kill_later(worker)
        if not any(one.phase is Phase.SERVING for one in workers.table.of(new.generation)):
            workers.newest = self._before

    def restart(self, old: Worker, code: int) -> None:
        """See Acts."""
        if not self._workers.stopping:
            self._restart(old, code)

    def _give_back(self, new: Worker, old: Worker) -> bool:
        # What it has taken it serves; it waits to be told whom it goes to (``overseen.GIVE_BACK``).
        new.phase = Phase.LEAVING
        new.gives = True
        self._connect(new, old, back=True)
        return new.id in self._gives_to

    def _kill_later(self, worker: Worker) -> None:
        workers = self._workers
        self._doomed[worker.id] = workers.loop.after(
            _KILL_SECONDS, lambda: workers.kill(worker, signal.SIGKILL)
        )

    def _spare(self, worker: Worker) -> None:
        timer = self._doomed.pop(worker.id, None)
        if timer is not None:
            timer.cancel()

    def _alone(self, index: int) -> None:
        # Of the generations before, one that was started again there and has not served comes too late.
        self._workers.cancel_restart(index)
        for worker in self._older(index):
            if worker.phase in (Phase.STARTING, Phase.PREPARED):
                self.kill(worker)

    def tell(self, progress: Mapping[str, object]) -> None:
        """See Acts."""
        if self._client is not None:
            self._client.say({**progress, "kind": "progress"})

    def over(self, code: int, why: str) -> None:
        """See Acts."""
        self._stop_patience()
        upgrade, self._upgrade = self._upgrade, None
        client, self._client = self._client, None
        assert upgrade is not None
        workers = self._workers
        generation = upgrade.generation
        undoing, self._undoing = self._undoing, None
        if code:
            workers.log.error(f"upgrade to generation {generation}: {why}")
        elif generation in workers.table.generations() and workers.newest == generation:
            workers.log.info(f"upgrade: generation {generation} serves{why and '; '}{why}")
            if self._confirm_seconds:
                self._wait_for_confirmation()
        if undoing is not None:
            how = f"the way back has failed, too: {why}" if code else "it went back"
            code, why = undoing[0], f"{undoing[1]}; {how}"
        elif code and upgrade.changed and not workers.stopping:
            self._go_back(upgrade.changed, client, code, why)
            return
        self._changed()
        done: dict[str, object] = {
            "kind": "done",
            "code": code,
            "why": why,
            "generation": workers.newest,
            "older": [one for one in workers.table.generations() if one < workers.newest],
            "confirm": self._confirm_seconds if not code else 0,
        }
        if not code and workers.newest == generation and self._confirming is None:
            self._finish(client, done)
        elif client is not None:
            client.say(done)

    # ---- the supervisor itself

    def _finish(self, client: Client | None, done: dict[str, object]) -> None:
        self.finishing = client, done
        self._renew(self._workers.commands[self._workers.newest])

    def renewed(self, how: str, why: str = "") -> None:
        """The supervisor goes on: ``how`` and ``why`` are as in Renewed. Ends the upgrade."""
        finishing, self.finishing = self.finishing, None
        if finishing is not None and finishing[0] is not None:
            finishing[0].say({**finishing[1], "supervisor": how, "supervisor_why": why})

    def write(self) -> dict[str, object]:
        """Return what is to be known by a supervisor that goes on from here, as plain values; see ``recall``.

        To be called while no upgrade is under way and none waits for its confirmation.
        """
        return {
            "most_generations": self.most_generations,
            "gives_to": {str(old): new for old, new in self._gives_to.items()},
        }

    def recall(
        self,
        most_generations: int,
        gives_to: Mapping[int, int],
        control: Control | None,
    ) -> None:
        """Go on from there."""
        self.most_generations = most_generations
        self._gives_to.update(gives_to)
        self._control = control

    def go_on(self) -> None:
        """Do again what a former program of this process had put off."""
        # Whoever could not give what it has left is asked again sooner; one that was taken back has longer to end.
        for worker in list(self._workers.table.workers.values()):
            if worker.phase is Phase.SERVING:
                self.succeed(worker)
            elif worker.phase is Phase.LEAVING and worker.apart:
                self._kill_later(worker)

    @property
    def control(self) -> Control | None:
        """The control socket, if there is one."""
        return self._control

    def _go_back(self, until: int, client: Client | None, code: int, why: str) -> None:
        # Which is an upgrade, too, of the workers that were replaced.
        workers = self._workers
        self._client = client
        self._undoing = code, why
        self._confirm_seconds = 0
        self.tell({"step": "going back", "why": why})
        generation = max(workers.commands) + 1
        workers.commands[generation] = workers.commands[self._before]
        self._before = workers.newest
        self._upgrade = Upgrade(self, generation, count=self._count_before, until=until)
        self._upgrade.begin()

    def _close_channel(self, worker: Worker) -> None:
        channel = self._channels.pop(worker.id, None)
        if channel is not None:
            channel.close()

    # ---- confirmation

    def _wait_for_confirmation(self) -> None:
        self._former = self._before
        self._confirming = self._workers.loop.after(
            self._confirm_seconds,
            lambda: self._take_back(f"not confirmed within {self._confirm_seconds} s"),
        )

    def _stop_waiting(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None

    def _take_back(self, why: str) -> None:
        self._stop_waiting()
        workers = self._workers
        refusal = self._refusal()
        if refusal:
            workers.log.error(f"upgrade: {why}, and there is no way back: {refusal}")
            return
        workers.log.warning(f"upgrade: {why}: back to the command of generation {self._former}")
        self._begin(workers.commands[self._former], None)


def command_of(message: Mapping[str, object]) -> Command:
    """Return the command that somebody asks for. Raises ValueError."""
    arguments = message.get("arguments")
    environment = message.get("environment", {})
    absent = message.get("absent", [])
    if not isinstance(arguments, list) or not isinstance(absent, list):
        raise ValueError("arguments and absent are lists")
    if not isinstance(environment, dict):
        raise ValueError("environment is an object")
    for value in (*arguments, *absent, *environment, *environment.values()):
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("all parts of a command are texts without NUL")
        os.fsencode(value)
    if any(not name or "=" in name for name in environment):
        raise ValueError("a variable has a name without =")
    executable = text(message, "executable")
    os.fsencode(executable)
    if not executable.startswith("/"):
        raise ValueError("executable is no absolute path")
    return Command(executable, (executable, *arguments), tuple(environment.items()), tuple(absent))


def _order_to_give(new: Worker, *, check: bool = False, back: bool = False) -> dict[str, object]:
    # ``to`` stands in its reports, too: one that was stopped may say it when somebody else asks for something else.
    return {"kind": "give", "check": check, "back": back, "to": new.generation}


def _counts(serving: Mapping[object, object]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in list(serving.items())[:_MOST_PROTOCOLS]:
        if not isinstance(name, str) or isinstance(count, bool) or not isinstance(count, int):
            raise ValueError("serving says how many there are by protocol")
        found[name] = count
    return found


def _directory() -> str:
    """Return where we work; nothing where somebody has removed it, as with a release that is deployed to a folder."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _described(worker: Worker) -> str:
    left = ", ".join(f"{count} {name}" for name, count in sorted(worker.serving.items()))
    return f"pid {worker.pid}: {left}" if left else f"pid {worker.pid}"


def _answer(client: Client, done: bool, why: str) -> None:
    client.say({"kind": "done", "code": 0 if done else 1, "why": "" if done else why})
