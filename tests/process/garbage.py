"""Good and hostile clients of all protocols, with the collector off: what of it would only a collector free?

``python tests/process/garbage.py [SECONDS]`` (30) runs the proxy with an upstream for each protocol. Afterwards
nothing may be left that is in a circle of references, with all that hangs on it: connections that break come by the
thousand, and what lived for long is the last that a collector looks at. Prints what was found, by type. Exit code 1:
something was.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.certificates import Authority  # noqa: E402  # the path is set above
from tests.process import mixed, soak  # noqa: E402  # as above
from tests.process.mixed_clients import NAME, TUNNEL  # noqa: E402  # as above
from tests.process.product import PATIENCE, Product, eventually, product  # noqa: E402  # as above
from tests.process.upstreams import running, upstream  # noqa: E402  # as above

HERE: Final = Path(__file__).parent
_KINDS_SHOWN: Final = 25
_WARM_UP: Final = 1.0
_SELDOM: Final = 1_000_000
"""Objects made and not freed after which its last generation must have had its turn: plugins may have circles."""


def look(proxy: Product, said: Path) -> dict[str, Any]:  # Any: as JSON has it
    """Let the proxy's collector run once; return what it found."""
    said.unlink(missing_ok=True)
    os.kill(proxy.worker, signal.SIGRTMIN)
    eventually(said.exists, "a look at the garbage")
    found: dict[str, Any] = json.loads(said.read_text())
    return found


def run(rpcload: Path, work: Path, seconds: float) -> tuple[dict[str, Any], list[mixed.Line]]:
    """Run everything for so long; return what the collector found, and what the good clients say."""
    authority = Authority(work / "certificates")
    shown = authority.issue(NAME, TUNNEL.partition(":")[0], "127.0.0.1")
    said = work / "garbage"
    with ExitStack() as stack:
        ports = stack.enter_context(mixed.upstreams(rpcload))
        bad = stack.enter_context(upstream("web"))
        text = soak.configuration(mixed.configuration(ports, shown), bad, 1)
        environment = {
            "PYTHONPATH": str(HERE / "collector"),
            "XPROXY_TEST_GARBAGE": str(said),
        }
        proxy = stack.enter_context(product(text, work, environment=environment))
        secured = [sys.executable, str(HERE / "secured.py"), str(proxy.port), str(authority.ca)]
        tls_port, _ = stack.enter_context(running([*secured, NAME], int))
        soak.good_and_hostile(proxy, tls_port, rpcload, authority.ca, _WARM_UP, 2)
        proxy.settled()
        look(
            proxy, said
        )  # what is left of its start, and of the first connection of a kind, is not meant
        over_tls = subprocess.Popen(
            [sys.executable, str(HERE / "hostile.py"), str(tls_port), f"{seconds}", "4"],
            stdout=subprocess.DEVNULL,
        )
        try:
            lines = soak.good_and_hostile(proxy, tls_port, rpcload, authority.ca, seconds, 3)
            over_tls.wait(seconds + 2 * PATIENCE)
        finally:
            over_tls.kill()
            over_tls.wait()
        proxy.settled()
        return look(proxy, said), lines


def main() -> int:
    """Run it as a program."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    with tempfile.TemporaryDirectory(prefix="xproxy-garbage-") as name:
        work = Path(name)
        found, lines = run(mixed.compiled(work), work, seconds)
    asked = sum(line.tally.requests for line in lines)
    print(f"{found['found']} objects after {asked:,} good requests; in circles:")
    for name, count in found["circles"][:_KINDS_SHOWN]:
        print(f"{count:8} {name}")
    print("of all:", ", ".join(f"{count} {name}" for name, count in found["all"][:_KINDS_SHOWN]))
    objects = math.prod(found["thresholds"])
    print(f"the last generation is looked at every {objects:,} objects")
    return 1 if found["found"] or not asked or objects > _SELDOM else 0


if __name__ == "__main__":
    sys.exit(main())
