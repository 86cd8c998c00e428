"""A worker that speaks with its supervisor and is no proxy: quick to start, and as bad as it is told to be.

``python fake_worker.py FOLDER KEY=VALUE…``: it writes what it hears into ``FOLDER/heard``, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from xproxy.supervisor import messages


class FakeWorker:
    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self.folder = folder
        self.options = options
        self.sock = socket.socket(fileno=int(os.environ[messages.SUPERVISOR]))
        self.sock.setblocking(True)
        self.sockets: list[socket.socket] = []
        welcome = self.hear()
        self.index, self.generation = welcome["index"], welcome["generation"]

    def note(self, **what: object) -> None:
        line = json.dumps({"pid": os.getpid(), **what}) + "\n"
        with (self.folder / "heard").open("a") as file:
            file.write(line)

    def hear(self) -> dict[str, Any]:
        heard = messages.receive(self.sock)
        if heard is None:
            self.note(kind="end")
            while True:
                time.sleep(60)  # a worker whose supervisor is gone goes on
        message, found = heard
        self.sockets += [socket.socket(fileno=one) for one in found]
        self.note(**message, sockets=[list(one.getsockname()) for one in self.sockets])
        return message

    def listen(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        place = {"path": address[5:]} if host == "unix" else {"host": host, "port": int(port)}
        question = {"kind": "listen", "id": 1, "name": "web", "backlog": 16, **place}
        messages.send(self.sock, question)
        answer = self.hear()
        if answer["kind"] == "refused":
            print(answer["why"], file=sys.stderr)
            sys.exit(1)

    def report(self, step: str, **more: object) -> None:
        messages.send(self.sock, {"kind": "report", "step": step, **more})

    def give(self, channel: socket.socket) -> None:
        channel.setblocking(True)
        try:
            channel.send(b"stopped")
            accepting = channel.recv(99) == b"accepting"
        except OSError:
            accepting = False
        if accepting:
            if self.options.pop("pauses", ""):
                os.kill(os.getpid(), signal.SIGSTOP)
            self.report("given", moved=3, serving={"http1": 2})
            if self.options.pop("tails", ""):
                channel.recv(99)  # it ends
                self.report("withdrawn", why="it has gone")
            elif "lingers" not in self.options:
                sys.exit(0)
        else:
            self.report("withdrawn", why="it has gone")
        channel.close()

    def take(self, channel: socket.socket) -> None:
        channel.setblocking(True)
        channel.recv(99)
        if "stops" in self.options:
            os.kill(os.getpid(), signal.SIGSTOP)
        if "dies_taking" in self.options:
            os.kill(os.getpid(), signal.SIGKILL)
        self.report("accepting")
        channel.send(b"accepting" if "stalls" not in self.options else b"no more")
        self.note(kind="accepting")
        if "holds" in self.options:
            self.channel = channel

    def take_more(self, channel: socket.socket) -> None:
        channel.setblocking(True)
        channel.recv(99)
        channel.send(b"accepting")
        channel.close()
        self.note(kind="took")

    def run(self) -> None:
        options = self.options
        if "breaks" in options:
            Path(options["breaks"]).touch()
        if "broken" in options and Path(options["broken"]).exists():
            sys.exit(1)
        if options.get("fails") == str(self.index):
            options["exits"] = "1"
        if "exits" in options:
            if "why" in options:
                messages.send(self.sock, {"kind": "failed", "why": options["why"]})
            sys.exit(int(options["exits"]))
        if "hangs" in options or options.get("hangs_at") == str(self.index):
            time.sleep(600)
        hello = {"kind": "hello", "v": 1, "workers": int(options.get("workers", "1"))}
        control = {"control": os.environ["CONTROL"]} if "CONTROL" in os.environ else {}
        messages.send(self.sock, {**hello, "log_format": "json", "log_level": "info", **control})
        if "listen" in options:
            self.listen(options["listen"])
        messages.send(self.sock, {"kind": "prepared"})
        if "serves" in options:
            self.report("giving", serving={"http1": options["serves"]})
        if messages.TAKEOVER in os.environ:
            self.take(socket.socket(fileno=int(os.environ[messages.TAKEOVER])))
        while True:
            message = self.hear()
            if message["kind"] == "start" and "dies" in options:
                os.kill(os.getpid(), signal.SIGKILL)
            elif message["kind"] == "start" and message.get("announce"):
                print("ready", flush=True)
            elif message["kind"] == "give":
                channel = self.sockets.pop()
                if message.get("check"):
                    channel.close()
                    self.report("rehearsed")
                else:
                    self.give(channel)
            elif message["kind"] == "take":
                self.take_more(self.sockets.pop())
            elif message["kind"] == "reload":
                messages.send(self.sock, {"kind": "reloaded"})
            elif message["kind"] == "cut" or (
                message["kind"] == "drain" and "stubborn" not in options
            ):
                sys.exit(int(options.get("code", "0")))


def go_on(options: dict[str, str]) -> int:
    """Be the next program of the supervisor, which is as good as it is told to be."""
    from xproxy.supervisor import main, way_back

    trying = os.environ[messages.RESUME] == messages.TRY
    wrong = options.get("trying" if trying else "resuming", "")
    try:
        if wrong == "raises":
            raise ImportError("half installed")
        if wrong == "vanishes":
            os.unlink(sys.executable)
        while wrong == "waits" and not Path(options["for"]).exists():
            time.sleep(0.01)
    except ImportError as exc:
        way_back.go_back(exc)  # as __main__ does
        raise
    if wrong == "version":
        from xproxy.supervisor import state

        vars(state)["STATE_VERSION"] = 99
    return main.supervise()


if __name__ == "__main__":
    if messages.RESUME in os.environ:
        sys.exit(go_on(dict(one.split("=", 1) for one in sys.argv[2:])))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    FakeWorker(Path(sys.argv[1]), dict(one.split("=", 1) for one in sys.argv[2:])).run()
