import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

# One step of a build, whose program has a child and names it in a file.
STEP = """
import signal, sys
from pathlib import Path
from image.build.tools import run
signal.signal(signal.SIGTERM, signal.default_int_handler)
program = "sleep 600 & echo $! > $0.new && mv $0.new $0; wait"
run(["sh", "-c", program, sys.argv[1]], what="sleep", log=Path(sys.argv[2]))
"""


def test_a_build_that_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    named = tmp_path / "child"
    with subprocess.Popen([sys.executable, "-c", STEP, named, tmp_path / "log"]) as build:
        while not named.exists():
            assert build.poll() is None
            time.sleep(0.02)
        child = psutil.Process(int(named.read_text()))
        build.send_signal(signal.SIGTERM)
        build.wait()
        ended, left = psutil.wait_procs([child], timeout=10)
        for process in left:
            process.kill()
    assert ended == [child]
