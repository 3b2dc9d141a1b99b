"""Trial and segment tables on disk: the record of a sweep, from which it is resumed.

``trials.parquet`` is one file with a row a trial, written anew at each change.
``segments.parquet`` is a folder of files, each complete on its own and never changed; a reader
takes the folder as one table.  A segment counts as reported once it is in there.
"""

import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuners.errors import BadInput
from tuners.layout import SEGMENTS_FOLDER, TRIALS_FILE
from tuners.names import is_below, is_plain
from tuners.sealed_table import read_table, write_table

SCHEMA_VERSION = 3
MERGE_ABOVE = 64
LARGE = 2**26  # bytes of a file that is left as it is: a reader takes none without bounds
_LOOKS = 5  # at a folder that changes
# Whatever else a row lacks while its trial runs.
_NEVER_EMPTY = {"trial", "phase", "row", "seeds", "config", "status", "time", "seed_scores"}

# How a trial stands at a segment: columns of both tables.
OUTCOME_COLUMNS = ("objective", "score", "final_score", "area", "steps_to_threshold")

_SEED_OBJECTIVES = pa.field(
    "seed_objectives", pa.list_(pa.float64()), metadata={"about": "one a seed; higher is better"}
)

TRIALS_SCHEMA = pa.schema(
    [
        pa.field("trial", pa.string(), metadata={"about": "name, unique in the sweep"}),
        pa.field("phase", pa.string(), metadata={"about": "search, validation or test"}),
        pa.field("row", pa.string(), metadata={"about": "the configuration it trains"}),
        pa.field("seeds", pa.list_(pa.int64()), metadata={"about": "trained side by side"}),
        pa.field("parent", pa.string(), metadata={"about": "trial whose checkpoint it began from"}),
        pa.field("until", pa.int64(), metadata={"about": "env_steps it ends at, if early"}),
        pa.field("config", pa.string(), metadata={"about": "the whole config, as JSON"}),
        pa.field("status", pa.string(), metadata={"about": "running, finished or error"}),
        pa.field(
            "stop_reason",
            pa.string(),
            metadata={"about": "budget, asha, median, diverged or error; empty while it runs"},
        ),
        pa.field("env_steps", pa.int64(), metadata={"about": "trained so far, per seed"}),
        *(
            pa.field(name, pa.float64(), metadata={"about": "of the last segment"})
            for name in OUTCOME_COLUMNS
        ),
        _SEED_OBJECTIVES,
        pa.field("started", pa.float64(), metadata={"about": "Unix time, s"}),
        pa.field("ended", pa.float64(), metadata={"about": "Unix time, s"}),
        pa.field("checkpoint", pa.string(), metadata={"about": "folder, relative to the sweep"}),
    ]
)

_SEGMENT_NUMBERS = {
    "segment": "counted from 1",
    "env_steps": "environment steps trained, per seed",
    "simulation_steps": "the same in simulation steps",
    "slots": "of the pack, 1 without one",
    "live_slots": "trials that the same run of the program trained",
}
_SEGMENT_FLOATS = {
    "time": "Unix time of the report, s",
    "objective": "what scheduler and searcher see, as the sweep's objective says",
    "score": "mean over seeds, in [0, 1000]; 0 of one that diverged",
    "final_score": "mean over seeds of the score over the last 3 segments",
    "area": "mean score over all segments so far: the area under the score curve",
    "steps_to_threshold": "million env_steps until the score stays above 800, mean over seeds;"
    " a seed below it counts as a segment more than it has trained",
    "upright_fraction": "share of the last half of the horizon with cos theta > 0.95",
    "episode_length": "simulation steps, in evaluation",
    "time_to_upright": "s",
    "distance": "m travelled by the cart",
    "shaped_return": "sum of raw rewards over a training episode; comparable in one shape only",
    "return_score_correlation": "of that sum with the score, over the segment's training episodes",
    "training_episode_length": "decisions",
    "policy_loss": "mean over the segment's gradient steps",
    "value_loss": "the same",
    "entropy": "nats",
    "approx_kl": "nats",
    "clip_fraction": "share of samples outside the clip range",
    "grad_norm": "before clipping",
    "explained_variance": "of the returns by the critic",
    "learning_rate": "of the last update",
    "steps_per_second": "environment steps of all seeds",
    "wall_seconds": "in the segment",
    "cpu_seconds": "in the segment",
    "compile_seconds": "before it, if the program was new to the process",
}


def _common_columns() -> list[pa.Field]:
    """Returns the columns of ``segments.parquet`` that those of all tasks have."""
    columns = [
        pa.field("trial", pa.string(), metadata={"about": "name in trials.parquet"}),
        pa.field("phase", pa.string(), metadata={"about": "search, validation or test"}),
    ]
    columns += [pa.field(n, pa.int64(), metadata={"about": a}) for n, a in _SEGMENT_NUMBERS.items()]
    columns += [
        pa.field(n, pa.float64(), metadata={"about": a}) for n, a in _SEGMENT_FLOATS.items()
    ]
    columns += [
        pa.field("seed_scores", pa.list_(pa.float64()), metadata={"about": "one score a seed"}),
        _SEED_OBJECTIVES,
        pa.field("diverged", pa.bool_(), metadata={"about": "given up: numbers not finite"}),
        pa.field("done", pa.bool_(), metadata={"about": "whether the trial ended with it"}),
        pa.field("stop_reason", pa.string(), metadata={"about": "why, if it did"}),
        pa.field("worker", pa.string(), metadata={"about": "host:pid that trained it"}),
        pa.field("programs", pa.int64(), metadata={"about": "compiled by that process so far"}),
        pa.field("device", pa.string(), metadata={"about": "kind of device"}),
    ]
    return columns


_COMMON_SCHEMA = pa.schema(_common_columns())


def segments_schema(task: str) -> pa.Schema:
    """Returns the columns of ``segments.parquet``, each described in its metadata."""
    from rlcore.rewards import TERMS  # here, as MLflow's follower reads tables without JAX

    columns = _common_columns()
    for term in TERMS[task]:
        for statistic in ("mean", "min", "max"):
            about = {"about": f"{statistic} of the unweighted term over the segment's samples"}
            columns.append(pa.field(f"term_{term}_{statistic}", pa.float64(), metadata=about))
    return pa.schema(columns)


class ResultsWriter:
    """Writes the tables of one sweep; the only writer they have."""

    def __init__(self, folder: Path, task: str) -> None:
        """Continues the tables in ``folder``, or begins them."""
        self.folder = folder
        self.schema = segments_schema(task)
        (folder / SEGMENTS_FOLDER).mkdir(parents=True, exist_ok=True)
        self.trials = {row["trial"]: row for row in read_trials(folder)}
        known = read_segments(folder, ["trial", "env_steps"])
        self._known = {(row["trial"], row["env_steps"]) for row in known}
        _remove_merged(folder / SEGMENTS_FOLDER)  # what took their place has just been read
        self._rows: list[dict[str, Any]] = []
        self._trials_changed = False
        self._numbers = itertools.count(
            last_number(path.name for path in (folder / SEGMENTS_FOLDER).iterdir()) + 1
        )

    def put_trial(self, row: dict[str, Any]) -> None:
        """Adds a trial, or changes the columns given of one that is there."""
        empty: dict[str, Any] = dict.fromkeys(TRIALS_SCHEMA.names)
        self.trials[row["trial"]] = {**self.trials.get(row["trial"], empty), **row}
        self._trials_changed = True

    def begin_trial(
        self,
        name: str,
        *,
        phase: str,
        row: str,
        seeds: Sequence[int],
        config: dict[str, Any],
        parent: str | None = None,
        until: int | None = None,
    ) -> dict[str, Any]:
        """Adds a trial that begins to train; returns its row, as ``TRIALS_SCHEMA`` has it."""
        self.put_trial(
            {
                **{"trial": name, "phase": phase, "row": row, "seeds": list(seeds)},
                **{"parent": parent, "until": until, "config": config_json(config)},
                **{"status": "running", "started": time.time()},
            }
        )
        return self.trials[name]

    def end_trial(
        self,
        name: str,
        stop_reason: str,
        last: Mapping[str, Any],
        checkpoint: str | None,
        ended: float | None = None,
    ) -> dict[str, Any]:
        """Notes how a trial ended; returns its row.

        Args:
            name: of the trial.
            stop_reason: why.
            last: its last report.
            checkpoint: its last, relative to the sweep's folder.
            ended: Unix time in s, now if not given.
        """
        self.put_trial(
            {
                "trial": name,
                "status": "error" if stop_reason == "error" else "finished",
                "stop_reason": stop_reason,
                "env_steps": last.get("env_steps", 0),
                **{column: last.get(column) for column in (*OUTCOME_COLUMNS, "seed_objectives")},
                "ended": time.time() if ended is None else ended,
                "checkpoint": checkpoint,
            }
        )
        return self.trials[name]

    def add_segment(self, row: dict[str, Any]) -> bool:
        """Takes in a report; returns False for one that was reported before an interruption."""
        identity = (row["trial"], row["env_steps"])
        if identity in self._known:
            return False
        self._known.add(identity)
        self._rows.append({name: row.get(name) for name in self.schema.names})
        return True

    def flush(self) -> None:
        """Makes everything taken in durable; segments first, as a trial's end speaks of them.

        Raises:
            OSError: the folder cannot be written; what was taken in is kept for the next try.
        """
        folder = self.folder / SEGMENTS_FOLDER
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self.schema)
            write_table(folder / _part_name(next(self._numbers)), table)
            self._rows = []
            parts = _parts(folder)
            if len(parts) > MERGE_ABOVE:
                _merge(folder, parts)
        if self._trials_changed:
            table = pa.Table.from_pylist(list(self.trials.values()), schema=TRIALS_SCHEMA)
            write_table(self.folder / TRIALS_FILE, table)
            self._trials_changed = False


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of ``trials.parquet``, none if it is not there yet.

    Raises:
        BadInput: it is damaged, or a name in it would lead out of the sweep's folder.
    """
    path = folder / TRIALS_FILE
    try:
        rows: list[dict[str, Any]] = read_table(path, TRIALS_SCHEMA, _NEVER_EMPTY).to_pylist()
    except FileNotFoundError:
        return []
    for row in rows:
        names = [row["trial"], row["row"], *([] if row["parent"] is None else [row["parent"]])]
        checkpoint = "none" if row["checkpoint"] is None else row["checkpoint"]
        if not all(map(is_plain, names)) or not is_below(checkpoint):
            raise BadInput(f"{path} is damaged: {names} at {checkpoint!r} are no names")
    return rows


def read_segments(folder: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Returns the rows of ``segments.parquet`` in the order they were reported.

    Raises:
        BadInput: a file of it is damaged.
    """
    return read_segments_after(folder, 0, columns)[0]


def read_segments_after(
    folder: Path, number: int, columns: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows written since an earlier call, and the number to give the next one.

    What the writer has merged since may bring rows of before with it.

    Args:
        folder: of the sweep.
        number: 0, or what the earlier call returned.
        columns: all if not given.

    Raises:
        BadInput: a file is damaged.
    """
    for _ in range(_LOOKS):
        new = [path for path in _parts(folder / SEGMENTS_FOLDER) if _range(path.name)[1] > number]
        with suppress(FileNotFoundError):  # merged into another meanwhile
            rows = [row for path in new for row in _read_segments(path, columns).to_pylist()]
            return rows, _range(new[-1].name)[1] if new else number
    raise BadInput(f"{folder / SEGMENTS_FOLDER} loses files while it is read")


def config_json(config: dict[str, Any]) -> str:
    """Returns a config as the trials table holds it."""
    return json.dumps(config, sort_keys=True)


def _part_name(first: int, last: int | None = None) -> str:
    return f"{first:08d}-{first if last is None else last:08d}.parquet"


def _range(name: str) -> tuple[int, int]:
    first, _, last = name.removesuffix(".parquet").partition("-")
    return int(first), int(last)


def covering(names: Iterable[str]) -> list[str]:
    """Returns the files of ``segments.parquet`` that together hold every row once, in order.

    A merged file covers those it was made of; they may still lie there after a crash.

    Args:
        names: of the files that lie in the folder.
    """
    found = [name for name in names if fnmatch(name, "[0-9]*-[0-9]*.parquet")]
    parts: list[str] = []
    for name in sorted(found, key=lambda name: (_range(name)[0], -_range(name)[1])):
        if not parts or _range(name)[0] > _range(parts[-1])[1]:
            parts.append(name)
    return parts


def last_number(names: Iterable[str]) -> int:
    """Returns the highest number in the names of such files: it rises with each that is written."""
    parts = covering(names)
    return _range(parts[-1])[1] if parts else 0


def _parts(folder: Path) -> list[Path]:
    return [folder / name for name in covering(path.name for path in folder.glob("*"))]


def _remove_merged(folder: Path) -> None:
    """Deletes small files that a larger one covers: a driver was killed between the two."""
    for path in set(folder.glob("[0-9]*-[0-9]*.parquet")) - set(_parts(folder)):
        path.unlink()


def _merge(folder: Path, parts: list[Path]) -> None:
    """Puts the small files at the end into one; the large ones before stay as they are."""
    sizes = [path.stat().st_size for path in parts]
    small = (i for i in range(len(parts)) if LARGE > sizes[i] <= sum(sizes[i + 1 :]))
    if (start := next(small, None)) is None:
        return
    table = pa.concat_tables([_read_segments(path) for path in parts[start:]])
    write_table(folder / _part_name(_range(parts[start].name)[0], _range(parts[-1].name)[1]), table)
    _remove_merged(folder)


def _read_segments(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    wanted = _COMMON_SCHEMA
    if columns is not None:
        wanted = pa.schema([_COMMON_SCHEMA.field(name) for name in columns])
    return read_table(path, wanted, _NEVER_EMPTY, columns)
