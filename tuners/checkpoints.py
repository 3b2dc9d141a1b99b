"""A sweep's checkpoints: which is a trial's newest, and which are deleted while more come."""

import contextlib
import math
from collections import deque
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rlcore.checkpoint import is_whole, read_metadata
from tuners.layout import CHECKPOINTS_KEPT, SESSION, STATE_FILE, TUNE_FOLDER
from tuners.mirror import Mirror


def newest_checkpoint(folder: Path, trial: str, up_to: float = math.inf) -> Path | None:
    """Returns the folder of a trial's furthest whole checkpoint, if there is one.

    Those beyond ``up_to`` env_steps are passed over.
    """
    found = []
    sessions = f"{TUNE_FOLDER}/*"
    for path in (
        *folder.glob(f"{sessions}/{trial}/checkpoint_*/{STATE_FILE}"),
        *folder.glob(f"{sessions}/{trial}_????/checkpoint_*/{STATE_FILE}"),  # ``trial_of``
    ):
        try:
            env_steps = int(read_metadata(path)["env_steps"])
        except (ValueError, OSError, KeyError, TypeError):
            continue  # damaged: the one before serves
        if env_steps <= up_to:
            found.append((env_steps, path))
    latest_first = sorted(found, reverse=True)
    return next((path.parent for _, path in latest_first if is_whole(path)), None)


def name_in_sweep(path: str) -> str:
    """Returns the name, in the sweep's folder, of what Tune wrote there or in the store."""
    return f"{SESSION}{path.rpartition(f'/{SESSION}')[2]}"


@dataclass
class _Saved:
    """A checkpoint, and when its segment was in the tables (``monotonic``)."""

    checkpoint: Any
    in_tables: float = math.inf


class Checkpoints:
    """What the trials of a running sweep saved: the last two of each stay.

    Tune's own way to delete (``num_to_keep``) writes the state of all trials each time.

    Attributes:
        resume_from: of jobs that are tried again, by name: where their next try begins, relative to
            the sweep's folder.
    """

    def __init__(self, resume_from: dict[str, str], mirror: Mirror | None) -> None:
        """Has heard of none yet; ``mirror`` copies the tables to the store if they are there."""
        self.resume_from = resume_from
        self._mirror = mirror
        self._saved: dict[str, deque[_Saved]] = {}
        # A store takes a moment, in which Tune would hear of no trial.
        self._deleting = None if mirror is None else ThreadPoolExecutor(4)

    def add(self, job: str, checkpoint: Any) -> None:
        """Notes a checkpoint that Tune has written."""
        self._saved.setdefault(job, deque()).append(_Saved(checkpoint))

    def delete_spent(self, ended: Container[str]) -> None:
        """Deletes all but two of each job, of those that the tables are beyond.

        A resume takes none that is further than they are, in the store if they are there.

        Args:
            ended: jobs that save no more.
        """
        now = monotonic()
        durable = now if self._mirror is None else self._mirror.has_tables_of
        for job, kept in list(self._saved.items()):
            for saved in kept:
                saved.in_tables = min(saved.in_tables, now)
            while len(kept) > CHECKPOINTS_KEPT and kept[CHECKPOINTS_KEPT].in_tables <= durable:
                self._delete(job, kept.popleft().checkpoint)
            if job in ended and len(kept) <= CHECKPOINTS_KEPT:
                del self._saved[job]

    def _delete(self, job: str, checkpoint: Any) -> None:
        if name_in_sweep(checkpoint.path) == self.resume_from.get(job):
            return  # the next try may begin there
        if self._deleting is None:
            _delete_folder(checkpoint)
        else:
            self._deleting.submit(_delete_folder, checkpoint)


def _delete_folder(checkpoint: Any) -> None:
    with contextlib.suppress(OSError):
        checkpoint.filesystem.delete_dir(checkpoint.path)
