"""MLflow follows a sweep, in a process of its own.

Training never waits for MLflow and cannot fail with it: ``tuners/tracking.py`` copies what is new,
about once a second, and what is missing in the end ``sweeps/track.py`` writes later.
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tuners.layout import MLFLOW_LOG, TRIALS_FILE
from tuners.lock import writing_to_mlflow
from tuners.login import error_line
from tuners.pinning import use_idle_time
from tuners.tracking import Follower

FOLLOW_EVERY = 1.0
_LAST_TIMEOUT = "3"  # s, at the end of a sweep whose server did not answer before


def start_following(folder: Path, tracking_uri: str) -> "subprocess.Popen[bytes]":
    """Returns the process that follows ``folder``; it finishes by itself once its input closes.

    Its input closes with the driver, however that ends, so it never outlives a sweep for long.
    """
    command = [sys.executable, "-m", "tuners.following", str(folder.absolute()), tracking_uri]
    log = (folder / MLFLOW_LOG).open("ab")
    # A process group of its own: Ctrl-C is the driver's to answer.  Not a session of its own: Linux
    # shares a core evenly between sessions, whatever runs in them.
    with log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0
        )


def stop_following(process: "subprocess.Popen[bytes]", timeout: float) -> bool:
    """Lets the follower finish; returns whether MLflow holds everything."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        return process.wait(timeout) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def _follow(folder: Path, tracking_uri: str) -> int:
    """Syncs every second until the input closes, then once for all; returns the exit status."""
    use_idle_time()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # `ray job stop` sends it to children one by one
    with writing_to_mlflow(folder):
        return _sync(folder, tracking_uri)


def _sync(folder: Path, tracking_uri: str) -> int:
    follower = Follower(folder, tracking_uri)
    last_error = ""
    while not _input_closed(FOLLOW_EVERY):
        if not (folder / TRIALS_FILE).exists():
            continue  # making a new store takes seconds, which the start has better use for
        last_error = _attempt(follower.sync, last_error)
    if last_error:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _LAST_TIMEOUT  # nobody waits for it for long
    return 1 if _attempt(follower.finish, "") else 0


def _attempt(action: Any, last_error: str) -> str:
    """Runs ``action``; returns the error that MLflow answered with, and logs each kind once."""
    try:
        action()
    except Exception as error:  # MLflow's clients raise all kinds; none may end the follower
        text = f"{type(error).__name__}: {error_line(error)}"
        if text != last_error:
            print(text, file=sys.stderr, flush=True)
        return text
    return ""


def _input_closed(timeout: float) -> bool:
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], timeout)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1024)


if __name__ == "__main__":
    sys.exit(_follow(Path(sys.argv[1]), sys.argv[2]))
