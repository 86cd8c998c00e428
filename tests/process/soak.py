"""Good and hostile clients of all protocols at once, and reloads meanwhile: what the proxy holds, what they feel.

``python tests/process/soak.py [SECONDS]`` (3,600) runs the proxy with an upstream for each protocol. Clients of each,
in clear text and over TLS, verify each answer (``mixed_clients.py``); ``hostile.py`` does its worst beside them;
every few seconds the file changes and SIGHUP is sent. Printed are the good clients' requests, the p50 and p99 of one
that asks over and over, and the memory over time. Exit code 1: a good client was not served, something was left
behind, memory went beyond its budget or grew after the warm-up, or the log has a traceback. The test runs a
minute of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.certificates import Authority  # noqa: E402  # the path is set above
from tests.process import mixed  # noqa: E402  # as above
from tests.process.mixed_clients import (  # noqa: E402  # as above
    CLIENTS,
    NAME,
    RPC,
    TUNNEL,
    Tally,
    Target,
    drive,
)
from tests.process.product import (  # noqa: E402  # as above
    PATIENCE,
    Product,
    eventually,
    product,
    with_admin,
)
from tests.process.slowloris import good_client  # noqa: E402  # as above
from tests.process.upstreams import running, upstream  # noqa: E402  # as above

HERE: Final = Path(__file__).parent
HELD: Final = 256 << 20
"""``overload.max_held_bytes`` of the proxy."""
BUDGET: Final = HELD + (128 << 20)
"""Bytes that it may hold beyond what it held at its start, whatever is done to it (docs/explanation/limits.md)."""
PIECES: Final = 96 << 20
"""Bytes by which what it holds at the end, everybody gone, may exceed what it held at its start: a quarter of the
budget, as a heap that was full of large and small things is in pieces afterwards. How many differs from run to run by
half of that (40 to 70 MiB were seen after the same load), so a short run has no finer measure; a long one has …"""
GROWTH: Final = 48 << 20
"""… bytes by which it may exceed what it held after the warm-up. A leak is more in an hour."""
DRIFT: Final = 16 << 20
"""Bytes by which it may hold more in the last fifth of the time than in the middle one …"""
LONG: Final = 1800.0
"""… of a run of so many seconds at least. A heap has taken its form by the middle of it; a leak goes on."""
WARM_UP: Final = 45.0
"""Seconds of it, in a run that is long enough."""
RELOAD: Final = 3.0
"""Seconds between reloads."""
LOOK: Final = 0.25
"""Seconds between looks at its memory."""
_TELLING: Final = re.compile(
    r"timeout|_fail|reset|overflow|destroy|limit|shed|held|error|statuses|refused"
)
"""Counters that say why a good client was not served."""
_ENDPOINT_LINES: Final = 40
"""Log lines about endpoints that are shown then."""
PATIENT: Final = "2m"
"""Of the proxy with its clients: a good one of a busy machine may stall for long. In an hour slow ones are ended."""


@attrs.define(eq=False)
class Watch:
    """What was seen of the proxy and by the good client that is timed."""

    start: int = 0
    """Resident bytes before anything was asked."""
    resident: list[tuple[float, int]] = attrs.field(factory=list)
    """Seconds since the start, and resident bytes."""
    taken: list[float] = attrs.field(factory=list)
    """Seconds, of each of that client's requests."""
    failures: list[str] = attrs.field(factory=list)
    """What it could not go on from."""
    reloads: int = 0

    @property
    def most(self) -> int:
        return max((size for _, size in self.resident), default=0)

    def drift(self) -> float:
        """Return by how many bytes it held more in the last fifth of the time than in the middle one."""
        sizes = [size for _, size in self.resident]
        fifth = max(1, len(sizes) // 5)
        middle, last = sizes[2 * fifth : 3 * fifth], sizes[-fifth:]
        return statistics.median(last) - statistics.median(middle or last) if last else 0.0

    def p(self, percent: int) -> float:
        """Return a percentile of the good client's times."""
        return statistics.quantiles(self.taken, n=100)[percent - 1]


def configuration(base: str, bad: int, idle: int) -> str:
    """Return mixed's configuration, with an upstream of their own for the bad, and other timeouts each time."""
    text = base.replace(
        "    routes: main\n",
        f"    routes: main\n    timeouts: {{head: {PATIENT}, detect: {PATIENT}, body: {PATIENT}, write: {PATIENT},"
        f" idle: {idle + 1}m}}\n"
        f"    codecs: [auto, {{name: http2, max_concurrent_streams: 100, settings_timeout: {PATIENT}}}]\n",
        1,
    ).replace("tls: {", f"tls: {{handshake_timeout: {PATIENT}, ", 1)
    # What the hostile make of an RPC must not reach the good ones' servers, which end the connection all share.
    for protocol in ("bolt", "dubbo", "xs1"):
        text = text.replace(
            f"{{match: {{protocol: {protocol}}}, cluster",
            f"{{match: {{protocol: {protocol}, service: {{contains: EchoService}}}}, cluster",
        )
    text = text.replace(
        "  main:\n",
        "  main:\n    - {match: {path: /good}, cluster: web}\n    - {hosts: [a], cluster: bad}\n",
        1,
    )
    for name in ("grpc", "web", "bolt2", "bolt", "dubbo", "thrift", "xs1"):
        text = text.replace(f"cluster: {name}}}\n", f"cluster: {name}, timeout: {PATIENT}}}\n")
    text = f"overload: {{max_held_bytes: {HELD}B}}\n{text}"
    return f"{text}  bad: {{endpoints: ['127.0.0.1:{bad}'], codec: http1}}\n"


def run(rpcload: Path, work: Path, seconds: float, seed: int = 7) -> tuple[mixed.Outcome, Watch]:
    """Run everything for so long."""
    authority = Authority(work / "certificates")
    shown = authority.issue(NAME, TUNNEL.partition(":")[0], "127.0.0.1")
    with ExitStack() as stack:
        ports = stack.enter_context(mixed.upstreams(rpcload))
        bad = stack.enter_context(upstream("web"))
        base = mixed.configuration(ports, shown)
        proxy = stack.enter_context(product(configuration(base, bad, 1), work))
        watch = Watch(start=proxy.resident)
        secured = [sys.executable, str(HERE / "secured.py"), str(proxy.port), str(authority.ca)]
        tls_port, _ = stack.enter_context(running([*secured, NAME], int))
        # The warm-up: everything has been asked for, what is remembered is, and the heap has been full once. A busy
        # machine takes its time for that.
        warm_up = max(min(seconds, WARM_UP), seconds / 10)
        lines = good_and_hostile(proxy, tls_port, rpcload, authority.ca, warm_up, seed)
        settled = _quiet(proxy)
        files = proxy.descriptors
        over = threading.Event()
        beside = [
            threading.Thread(target=_timed, args=(proxy, over, watch)),
            threading.Thread(target=_look, args=(proxy, over, watch)),
            threading.Thread(target=_reload, args=(proxy, over, watch, base, bad)),
        ]
        for thread in beside:
            thread.start()
        started = time.monotonic()
        try:
            lines += good_and_hostile(proxy, tls_port, rpcload, authority.ca, seconds, seed + 1)
        finally:
            over.set()
            for thread in beside:
                thread.join(2 * PATIENCE)
        after = _quiet(proxy)
        bound = settled + GROWTH if seconds >= LONG else watch.start + PIECES
        with suppress(
            AssertionError
        ):  # what is held for a while, as unused connections are, goes by itself
            eventually(lambda: proxy.resident <= bound, "", 2 * PATIENCE)
        after = proxy.resident
        complaints = [*mixed.complaints(proxy), *watch.failures]
        if watch.most - watch.start > BUDGET:
            complaints.append(
                f"it held {watch.most - watch.start >> 20} MiB, budget {BUDGET >> 20}"
            )
        if after > bound:
            complaints.append(
                f"{after >> 20} MiB are held at the end, at most {bound >> 20} may be"
            )
        if seconds >= LONG and watch.drift() > DRIFT:
            complaints.append(f"it holds {watch.drift() / 2**20:.0f} MiB more than in the middle")
        with suppress(AssertionError):
            eventually(lambda: proxy.descriptors <= files, "")
        if proxy.descriptors > files:
            complaints.append(f"{proxy.descriptors} descriptors, {files} after the warm-up")
        if complaints or not all(line.good for line in lines):
            said = [
                f"{k}: {v}" for k, v in sorted(proxy.stats().items()) if v and _TELLING.search(k)
            ]
            log = proxy.said()
            endpoints = [line for line in log.splitlines() if "endpoint " in line]
            complaints += [
                f"counted: {', '.join(said)}",
                f"endpoints: {chr(10).join(endpoints[-_ENDPOINT_LINES:])}",
                f"log: {log[-3000:]}",
            ]
        outcome = mixed.Outcome(
            lines=tuple(lines),
            complaints=tuple(complaints),
            seconds=time.monotonic() - started,
            memory=(settled, after),
        )
    return outcome, watch


def good_and_hostile(
    proxy: Product,
    tls_port: int,
    rpcload: Path,
    authority: Path,
    seconds: float,
    seed: int,
) -> list[mixed.Line]:
    """Let all good clients ask for so long, beside the hostile ones."""
    over = threading.Event()
    lines, threads = [], []
    command = [sys.executable, str(HERE / "hostile.py"), str(proxy.port), str(seconds), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
        try:
            for protocol, client in CLIENTS.items():
                for tls in (False, True):
                    tally = Tally()
                    target = Target(
                        port=tls_port if tls and protocol in RPC else proxy.port,
                        authority=authority if tls else None,
                        over=over,
                        seconds=seconds,
                        rpcload=rpcload,
                        random=random.Random(f"{seed} {protocol} {tls}"),
                    )
                    lines.append(mixed.Line(protocol=protocol, tls=tls, tally=tally))
                    threads.append(threading.Thread(target=drive, args=(client, target, tally)))
            for thread in threads:
                thread.start()
            over.wait(seconds)
            over.set()
            for thread in threads:
                thread.join(5 * PATIENCE)
            said, _ = attackers.communicate(timeout=2 * PATIENCE)
        finally:
            over.set()
            attackers.kill()
    kinds = json.loads(said)
    idle = [
        name for name in ("slow", "malformed", "packed bomb", "long head") if not kinds.get(name)
    ]
    if idle:
        lines[0].tally.fail(AssertionError(f"the hostile did nothing of {', '.join(idle)}"))
    return lines


def _quiet(proxy: Product) -> int:
    """Wait until nobody is there; return what is held then."""
    proxy.settled()
    return proxy.resident


def _timed(proxy: Product, over: threading.Event, watch: Watch) -> None:
    while not over.is_set():
        try:
            watch.taken += good_client(proxy.port, 0.5)
        except (OSError, AssertionError) as exc:
            watch.failures.append(f"the timed client: {exc!r}")
            return


def _look(proxy: Product, over: threading.Event, watch: Watch) -> None:
    started = time.monotonic()
    while not over.wait(LOOK):
        watch.resident.append((time.monotonic() - started, proxy.resident))


def _reload(proxy: Product, over: threading.Event, watch: Watch, base: str, bad: int) -> None:
    for idle in itertools.cycle((2, 1)):
        if over.wait(RELOAD):
            return
        try:
            proxy.reload(with_admin(configuration(base, bad, idle), proxy.admin))
        except (OSError, AssertionError) as exc:
            watch.failures.append(f"a reload: {exc!r}")
            return
        watch.reloads += 1


def _over_time(watch: Watch) -> Iterator[str]:
    last = watch.resident[-1][0] if watch.resident else 0.0
    for tenth in range(10):
        sizes = [s for at, s in watch.resident if tenth <= 10 * at / max(last, 1e-9) < tenth + 1]
        if sizes:
            yield f"{max(sizes) >> 20}"


def main() -> int:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seconds", type=float, nargs="?", default=3600.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="xproxy-soak-") as name:
        work = Path(name)
        outcome, watch = run(mixed.compiled(work), work, seconds)
    mixed.show(outcome)
    print(
        f"memory: {watch.start >> 20} MiB at the start, most {watch.most >> 20} MiB (budget "
        f"{BUDGET >> 20} MiB more); of each tenth of the time the most: {', '.join(_over_time(watch))} MiB; "
        f"{watch.drift() / 2**20:+.1f} MiB from the middle to the end"
    )
    print(
        f"a good client beside it all: p50 {watch.p(50) * 1e3:.1f} ms, p99 {watch.p(99) * 1e3:.1f} ms of "
        f"{len(watch.taken):,} requests; {watch.reloads} reloads"
    )
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
