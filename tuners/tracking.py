"""Copies a sweep's tables and files into MLflow.

The tables on disk are the spool: what a server missed while it was away is written when it answers
again.  Runs are found again by their tags, which also say how much of each was written: so nothing
is written to a second run, and a server that was set back to an older copy gets what it lost.
"""

import getpass
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rlcore.files import replacing
from tuners.errors import BadInput
from tuners.job_names import FIRST_TRIAL, trial_number
from tuners.layout import (
    COMPARISON_FILE,
    MEDIA_FOLDER,
    PLOTS_FOLDER,
    REPORT_FILE,
    SEGMENTS_FOLDER,
    SHAPES_FILE,
    SPEC_FILE,
    STATE_FILE,
    TRACKING_FILE,
    TRIALS_FILE,
    film_strip_path,
    video_path,
)
from tuners.login import whole_uri
from tuners.reading import read_json, read_yaml
from tuners.results import read_segments_after, read_trials
from tuners.store import fetch

SUMMARY = "sweep"
_UNFINISHED = 600.0  # seconds after which nobody is still making a store
METRICS = (
    "objective",
    "score",
    "final_score",
    "area",
    "steps_to_threshold",
    "upright_fraction",
    "episode_length",
    "time_to_upright",
    "distance",
    "shaped_return",
    "training_episode_length",
    "policy_loss",
    "value_loss",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "grad_norm",
    "explained_variance",
    "learning_rate",
    "steps_per_second",
)
_METRICS_PER_CALL = 1000
_REPORTED = "reported_env_steps"  # a tag
_SQLITE = "sqlite:///"
# What failed is tried again a second later in any case.
_CLIENT_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_SUMMARY_FILES = (SPEC_FILE, COMPARISON_FILE, SHAPES_FILE, TRIALS_FILE, REPORT_FILE)


_STATE: dict[str, type] = {"experiment_id": str, "experiment": str, "runs": dict, "files": list}


@dataclass
class _Written:
    """What MLflow holds of a sweep.

    Attributes:
        runs: ids by the name of their trial.
        described: trials whose configuration is there.
        logged: env_steps by trial up to which reports are there.
        ended: trials whose run has ended.
        files: names of the film strips and videos that are there.
    """

    runs: dict[str, str] = field(default_factory=dict)
    described: set[str] = field(default_factory=set)
    logged: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


class Follower:
    """Copies what is new in a sweep's folder into MLflow, as often as ``sync`` is called."""

    def __init__(self, folder: Path, tracking_uri: str) -> None:
        """Looks at nothing yet: the first ``sync`` does."""
        self.folder = folder
        self.uri = tracking_uri
        self._sweep: dict[str, Any] = {}
        self._written = _Written()
        self._segments_read = 0  # as ``read_segments_after`` counts
        self._client: Any = None
        self._experiment, self._name = "", ""

    def sync(self) -> None:
        """Brings MLflow up to date.

        Raises:
            Exception: whatever MLflow raises when it cannot be reached; call again later.
        """
        try:
            self._sync()
        except BaseException:
            self._client = None  # what got through will be found by its tags
            raise

    def _sync(self) -> None:
        if self._client is None:
            self._connect()
        trials = read_trials(self.folder)
        self._summary_run(ended=False)
        for trial in trials:
            if trial["trial"] not in self._written.runs:
                self._create_run(trial)
            if trial["trial"] not in self._written.described:
                self._describe_run(trial)
        self._log_segments()
        for trial in trials:
            if trial["status"] != "running" and trial["trial"] not in self._written.ended:
                self._end_run(trial)
        self._log_media(trials)
        self._save_state()

    def finish(self) -> None:
        """Brings MLflow up to date and puts the sweep's own files into its summary run."""
        self._client = None  # it may have been set back without a word
        self.sync()
        run_id = self._written.runs[SUMMARY]
        for name in _SUMMARY_FILES:
            if (self.folder / name).exists():
                self._client.log_artifact(run_id, str(self.folder / name))
        for name in (PLOTS_FOLDER, SEGMENTS_FOLDER):
            if (self.folder / name).exists():
                self._client.log_artifacts(run_id, str(self.folder / name), name)
        comparison = self.folder / COMPARISON_FILE
        if comparison.exists():
            self._log_comparison(run_id, read_json(comparison))
        alone = self._sweep["spec"]["preset"] == "train"  # one run: there is nothing to compare
        if self._concluded() or (alone and FIRST_TRIAL in self._written.ended):
            self._summary_run(ended=True)
        self._save_state()

    def _connect(self) -> None:
        for name, value in _CLIENT_LIMITS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._sweep = read_yaml(self.folder / SPEC_FILE, "description")
        _make_store(self.uri)
        client = MlflowClient(whole_uri(self.uri))
        task = self._sweep["spec"]["base"]["task"]
        begun_in = read_state(self.folder).get("experiment")
        self._name = name = begun_in or os.environ.get("MLFLOW_EXPERIMENT_NAME") or task
        found = client.get_experiment_by_name(name)
        if found is None:
            self._experiment = client.create_experiment(name, self._artifact_location(task))
        elif found.lifecycle_stage == "deleted":
            raise BadInput(
                f"its experiment '{name}' is deleted: restore it (mlflow experiments restore"
                f" --experiment-id {found.experiment_id}, with MLFLOW_TRACKING_URI set to it)"
            )
        else:
            self._experiment = found.experiment_id
        self._segments_read = 0  # some of these may not have been written
        self._written = self._found(client)
        summary = self._written.runs.get(SUMMARY)
        if summary is not None and not self._concluded():  # it was, before it was extended
            client.update_run(summary, "RUNNING")
            client.set_tag(summary, "status", "running")
        self._client = client

    def _concluded(self) -> bool:
        """Returns whether the last word is written; an extended sweep has a new one to say."""
        comparison = self.folder / COMPARISON_FILE
        if not comparison.exists():
            return (self.folder / SHAPES_FILE).exists()
        trials = self._sweep["spec"]["num_trials"]
        return bool(read_json(comparison).get("num_trials", trials) == trials)

    def _artifact_location(self, task: str) -> str | None:
        """Returns a folder beside a local store, or here for a database; a server has its own."""
        if self.uri.startswith("http"):
            return None
        store = _local_store(self.uri)
        place = Path.cwd() if store is None else store.absolute().parent
        return (place / "mlartifacts" / task).as_uri()

    def _found(self, client: Any) -> _Written:
        """Returns what MLflow holds; what is not there was never written, or is gone."""
        written, token = _Written(), None
        while True:
            page = client.search_runs(
                [self._experiment],
                f"tags.sweep_id = '{self._sweep['sweep_id']}'",
                max_results=1000,
                page_token=token,
            )
            for run in page:
                name = run.data.tags["trial"]
                written.runs[name] = run.info.run_id
                written.logged[name] = int(run.data.tags.get(_REPORTED, 0))
                if run.data.params:
                    written.described.add(name)
                if run.info.status != "RUNNING":
                    written.ended.add(name)
            token = page.token
            if not token:
                break
        remembered = read_state(self.folder)
        runs = remembered.get("runs", {})
        if runs and all(written.runs.get(name) == run_id for name, run_id in runs.items()):
            written.files.update(remembered.get("files", ()))
        return written

    def _create_run(self, trial: Mapping[str, Any]) -> None:
        kind = "trial" if trial["phase"] == "search" else trial["phase"]
        seeds = ",".join(map(str, trial["seeds"]))
        tags = self._tags(kind, trial["trial"]) | {"row": trial["row"], "seeds": seeds}
        if kind == "trial":
            parent = trial["parent"]
            tags["origin"] = (
                origin(self._sweep["spec"], trial["trial"]) if parent is None else f"from {parent}"
            )
        precision = self._sweep["spec"]["precision"]
        run = self._client.create_run(
            self._experiment,
            start_time=int(trial["started"] * 1000),
            tags=tags | {"status": "running", "precision": precision},
            run_name=_run_name(trial),
        )
        self._written.runs[trial["trial"]] = run.info.run_id

    def _describe_run(self, trial: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        config, run_id = json.loads(trial["config"]), self._written.runs[trial["trial"]]
        params = [Param(name, str(value)) for name, value in flat_config(config).items()]
        self._client.log_dict(run_id, config, "config.yaml")
        self._client.log_batch(run_id, params=params[:100])  # last: it tells that both are there
        self._written.described.add(trial["trial"])

    def _tags(self, kind: str, trial: str) -> dict[str, str]:
        versions = " ".join(f"{name} {value}" for name, value in self._sweep["versions"].items())
        return {
            "mlflow.user": _user(),
            "sweep": self._sweep["spec"]["name"],
            "sweep_id": self._sweep["sweep_id"],
            "kind": kind,
            "trial": trial,
            "git_revision": self._sweep["git_revision"],
            "versions": versions,
        }

    def _log_segments(self) -> None:
        """Writes new segments; a point written twice is one point, as its time is the report's."""
        from mlflow.entities import Metric, RunTag

        logged = self._written.logged
        columns = ["trial", "env_steps", "time", "device", *METRICS]
        fresh: dict[str, list[dict[str, Any]]] = {}
        rows, read = read_segments_after(self.folder, self._segments_read, columns)
        for row in rows:
            if row["env_steps"] > logged.get(row["trial"], 0):
                fresh.setdefault(row["trial"], []).append(row)
        unknown = fresh.keys() - self._written.runs.keys()  # begun since the trials were read
        for name in unknown:
            del fresh[name]
        for name, new in fresh.items():
            metrics = [
                Metric(metric, row[metric], int(row["time"] * 1000), row["env_steps"])
                for row in new
                for metric in METRICS
                if row[metric] is not None
            ]
            run_id, last = self._written.runs[name], max(row["env_steps"] for row in new)
            for start in range(0, len(metrics), _METRICS_PER_CALL):
                batch = metrics[start : start + _METRICS_PER_CALL]
                self._client.log_batch(run_id, metrics=batch)
            tags = [RunTag("device", new[-1]["device"]), RunTag(_REPORTED, str(last))]
            self._client.log_batch(run_id, tags=tags)
            logged[name] = last
        if not unknown:
            self._segments_read = read

    def _end_run(self, trial: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        run_id = self._written.runs[trial["trial"]]
        tags = {
            "status": trial["status"],
            "stop_reason": trial["stop_reason"],
            "rung": str(trial["env_steps"]),
        }
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if trial["checkpoint"] is not None:
            checkpoint = fetch(self.folder, f"{trial['checkpoint']}/{STATE_FILE}")
            if checkpoint.exists():
                self._client.log_artifact(run_id, str(checkpoint), "checkpoint")
        failed = trial["stop_reason"] in ("diverged", "error")
        self._client.set_terminated(
            run_id, "FAILED" if failed else "FINISHED", int(trial["ended"] * 1000)
        )
        self._written.ended.add(trial["trial"])

    def _log_media(self, trials: list[dict[str, Any]]) -> None:
        folder = self.folder / MEDIA_FOLDER
        new = {path.name for path in folder.glob("*.*")} - self._written.files
        by_name = {trial["trial"]: trial for trial in trials} if new else {}
        for path in sorted(folder / name for name in new):
            name = path.stem.partition("@")[0]
            if name not in by_name:
                continue
            if path == film_strip_path(self.folder, name):
                self._log_film_strip(path, by_name[name])
            elif path.suffix == video_path(self.folder, name).suffix:
                self._client.log_artifact(self._written.runs[name], str(path), "video")
            else:
                continue
            self._written.files.add(path.name)

    def _log_film_strip(self, path: Path, trial: Mapping[str, Any]) -> None:
        from PIL import Image

        run_id = self._written.runs[trial["trial"]]
        with Image.open(path) as image:
            self._client.log_image(run_id, image, key="film_strip", step=trial["env_steps"] or 0)
        self._client.log_artifact(run_id, str(path), "film_strip")

    def _summary_run(self, *, ended: bool) -> None:
        if SUMMARY not in self._written.runs:
            run = self._client.create_run(
                self._experiment,
                tags=self._tags("sweep", SUMMARY) | {"status": "running"},
                run_name=f"{self._sweep['spec']['name']} (summary)",
            )
            self._written.runs[SUMMARY] = run.info.run_id
        if ended:
            for name, value in (("status", "finished"), *_about_sweep(self._sweep["spec"])):
                self._client.set_tag(self._written.runs[SUMMARY], name, value)
            self._client.set_terminated(self._written.runs[SUMMARY])

    def _log_comparison(self, run_id: str, comparison: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(f"test_{column}_{row}", cell["value"], now, 0)
            for row, cells in comparison["table"].items()
            for column, cell in cells.items()
        ]
        metrics += [
            Metric(f"improvement_{column}_over_{row}", cell["value"], now, 0)
            for row, cells in comparison["improvement"].items()
            for column, cell in cells.items()
        ]
        if comparison["over_tuning"] is not None:
            metrics.append(Metric("over_tuning", comparison["over_tuning"], now, 0))
        self._client.log_batch(run_id, metrics=metrics)
        self._client.set_tag(run_id, "winner", comparison["winner"])

    def _save_state(self) -> None:
        entries = {
            "experiment_id": self._experiment,
            "experiment": self._name,
            "runs": self._written.runs,
            "files": sorted(self._written.files),
        }
        with replacing(self.folder / TRACKING_FILE) as beside:
            beside.write_text(json.dumps(entries))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container, where a number may have no name
        return "unknown"


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config's settings under the names a search space has for them."""
    return {
        "task": config["task"],
        "budget": config["budget"],
        **config["ppo"],
        **config["hyperparameters"],
        **{f"reward.{name}": value for name, value in config["reward"].items()},
        **{f"task.{name}": value for name, value in config["constants"].items()},
        **({"schedule": json.dumps(config["schedule"])} if "schedule" in config else {}),
    }


def _about_sweep(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the summary run's tags that say how the sweep searched."""
    extended = ", ".join(f"+{added} trials" for added in spec["extensions"])
    names = ("warm_start", "searcher", "scheduler", "objective")
    tags = {"extended": extended, **{name: spec[name] for name in names}}
    return [(name, value) for name, value in tags.items() if value]


def origin(spec: Mapping[str, Any], trial: str) -> str:
    """Returns who proposed a trial of the search: what MLflow shows as its origin."""
    number = trial_number(trial)
    if number == 0:
        return "baseline"
    if number <= len(spec["first_values"]):
        return f"warm start from {spec['warm_start']}"
    begins = spec["num_trials"] - sum(spec["extensions"])
    for count, added in enumerate(spec["extensions"], 1):
        if begins <= number < begins + added:
            return f"{spec['searcher']}, extension {count}"
        begins += added
    return str(spec["searcher"])


def _run_name(trial: Mapping[str, Any]) -> str:
    named = trial["phase"] == "search" and trial["row"] != trial["trial"]
    return f"{trial['trial']} ({trial['row']})" if named else str(trial["trial"])


def _make_store(uri: str) -> None:
    """Makes a local store that is not there yet, whole or not at all.

    MLflow builds its tables in many steps; killed between two, it leaves a store that no MLflow can
    open again.
    """
    from mlflow import MlflowClient

    path = _local_store(uri)
    if path is None or path.exists():
        return
    _remove_unfinished_stores(path)
    # A name of its own each time: MLflow keeps what it opened, also if that has failed.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        MlflowClient(f"{_SQLITE}{beside}")
        _rename_if_free(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _remove_unfinished_stores(path: Path) -> None:
    """Deletes what ``_make_store`` was making beside ``path`` in processes that were killed."""
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}(-journal)?")
    for left in path.parent.iterdir():
        if unfinished.fullmatch(left.name) and time.time() - left.stat().st_mtime > _UNFINISHED:
            left.unlink(missing_ok=True)


def _local_store(uri: str) -> Path | None:
    """Returns the file of a local store, or None for a server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def _rename_if_free(path: Path, new: Path) -> None:
    """Gives a file its name unless another process was sooner."""
    try:
        os.link(path, new)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        path.rename(new)


def read_state(folder: Path) -> dict[str, Any]:
    """Returns what was written to MLflow; nothing if that is not known, or damaged.

    Then the runs are found again by their tags.
    """
    try:
        state = read_json(folder / TRACKING_FILE)
    except BadInput:
        return {}
    is_whole = (
        isinstance(state, dict)
        and all(isinstance(state.get(name), kind) for name, kind in _STATE.items())
        and all(isinstance(name, str) for name in state["files"])
    )
    return state if is_whole else {}


def run_link(folder: Path) -> str | None:
    """Returns the path of the sweep's runs in MLflow's UI, or None before there are any."""
    experiment = read_state(folder).get("experiment_id")
    if experiment is None:
        return None
    sweep = read_yaml(folder / SPEC_FILE, "description")["sweep_id"]  # its name may be changed
    shown = quote(f"tags.sweep_id = '{sweep}'")
    return (
        f"#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"
        f"&searchFilter={shown}&orderByKey=metrics.%60objective%60&orderByAsc=false"
    )
