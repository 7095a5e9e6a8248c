"""Runs a program and writes the most memory it held, in KiB, to a file: `peak.py FILE PROGRAM ...`.

A process of its own, and a small one: Linux counts what its parent held at the fork as a child's.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    file, *argv = sys.argv[1:]
    _, status, usage = os.wait4(os.posix_spawn(argv[0], argv, os.environ), 0)
    Path(file).write_text(f"{usage.ru_maxrss}\n", encoding="ascii")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
