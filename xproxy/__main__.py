"""``python -m xproxy`` and ``xproxy``: the command line. ``xproxy run`` is a supervisor of others like it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run what the arguments ask for."""
    # A supervisor is small because it imports little: hence the imports are here.
    try:
        from xproxy.supervisor.main import is_supervisor, supervise, tell_why
    except Exception as exc:
        from xproxy.supervisor.way_back import go_back

        go_back(exc)  # this may be the next program of a supervisor, and half installed
        raise
    if is_supervisor(sys.argv):
        sys.exit(supervise())
    try:
        from xproxy.cli.main import main as command_line

        command_line()
    except Exception as exc:
        tell_why(exc)  # a command is imported when it is asked for
        raise


if __name__ == "__main__":
    main()
