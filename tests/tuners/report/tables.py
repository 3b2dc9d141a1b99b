"""A whole sweep written by hand: its folder as a finished or a running sweep leaves it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from rlcore.rewards import TERMS
from tests.tuners.small import SEGMENT, segment_row, small_spec, trial_row
from tuners.results import ResultsWriter, config_json, read_segments
from tuners.space import Choice, LogUniform, Uniform
from tuners.spec import SweepSpec
from tuners.validate import compare, gather_curves

SPACE = {
    "reward.combine": Choice(("sum", "product")),
    "reward.peak.on": Choice((True, False)),
    "reward.peak.weight": Uniform(0.0, 1.0),
    "reward.cos.weight": Uniform(0.5, 1.0),
    "learning_rate": LogUniform(1e-4, 1e-2),
}
SEGMENTS = 8
WINNER = "trial-003"


def curve(last: float) -> list[float]:
    """Scores that rise in even steps."""
    return [last * (i + 1) / SEGMENTS for i in range(SEGMENTS)]


class Tables:
    """Writes the tables of one sweep; what a test does not care for is filled in."""

    def __init__(self, runs: Path, **overrides: Any) -> None:
        self.spec: SweepSpec = small_spec(
            runs, **{"space": SPACE, "num_trials": 12, "num_finalists": 2} | overrides
        )
        self.spec.folder.mkdir(parents=True)
        self.spec.save()
        self.writer = ResultsWriter(self.spec.folder, self.spec.base.task)

    def trial(
        self,
        name: str,
        scores: Sequence[float],
        *,
        phase: str = "search",
        row: str | None = None,
        values: Mapping[str, Any] | None = None,
        shaped: Sequence[float | None] | None = None,
        terms: Mapping[str, tuple[float, float, float]] | None = None,
        stop_reason: str | None = "budget",
        schedule: Sequence[tuple[int, Mapping[str, Any]]] = (),
    ) -> None:
        """Adds a trial with a segment a score; two seeds score alike."""
        first = self.spec.base.with_values(values or {})
        config = replace(first, schedule=tuple(schedule)).to_dict()
        for i, score in enumerate(scores):
            area = sum(scores[: i + 1]) / (i + 1)
            columns = {"objective": area, "score": score, "final_score": score, "area": area}
            columns |= {"seed_scores": [score, score], "time": 1000.0 + i}
            columns["shaped_return"] = shaped[i] if shaped is not None else score / 10
            columns["return_score_correlation"] = 0.9
            columns["steps_to_threshold"] = 1e-6 * SEGMENT * (i + 2)
            for term in TERMS[self.spec.base.task]:
                mean, low, high = (terms or {}).get(term, (0.5, 0.0, 1.0))
                columns |= {f"term_{term}_mean": mean, f"term_{term}_min": low}
                columns[f"term_{term}_max"] = high
            self.writer.add_segment(segment_row(name, i + 1, phase, **columns))
        ended = {
            "status": "finished" if stop_reason else "running",
            "stop_reason": stop_reason,
            "ended": 2000.0 if stop_reason else None,
            "env_steps": len(scores) * SEGMENT,
        }
        if stop_reason and scores:
            names = ("objective", "score", "final_score", "area", "steps_to_threshold")
            ended |= {key: columns[key] for key in names}
        self.writer.put_trial(
            trial_row(name, phase, row or name, config=config_json(config), **ended)
        )

    def write(self) -> Path:
        """Writes the tables; returns the sweep's folder."""
        self.writer.flush()
        return self.spec.folder

    def conclude(self, winner: str, over_tuning: float | None) -> Path:
        """Writes tables and comparison as a sweep does at its end; returns its folder."""
        folder = self.write()
        trials = list(self.writer.trials.values())
        segments = read_segments(folder)
        comparison = compare(
            gather_curves(trials, segments, "test"),
            winner=winner,
            over_tuning=over_tuning,
            validated={winner: 400.0, "baseline": 200.0},
        )
        entries = {
            "sweep": self.spec.name,
            "num_trials": self.spec.num_trials,
            "winner": winner,
            **comparison.to_dict(),
        }
        (folder / "comparison.json").write_text(json.dumps(entries))
        return folder


def search_values(number: int) -> dict[str, Any]:
    """Values of a trial of the search: all differ, and each choice comes half of the time."""
    return {
        "reward.combine": ("sum", "product")[number // 2 % 2],
        "reward.peak.on": number % 2 == 0,
        "reward.peak.weight": 0.1 + 0.07 * number,
        "reward.cos.weight": 0.95 - 0.03 * number,
        "learning_rate": 1e-3 * (1 + number / 4),
    }


def finished_sweep(runs: Path, **overrides: Any) -> Path:
    """A finished sweep of twelve trials, its winner trial-003, with pictures and a video."""
    tables = Tables(runs, **overrides)
    for number in range(12):
        name, stopped = f"trial-{number:03d}", number % 3 == 1
        scores = curve(900.0 if name == WINNER else 300.0 + 20 * number)
        tables.trial(
            name,
            scores[:3] if stopped else scores,
            row="baseline" if number == 0 else name,
            values=search_values(number) if number else None,
            stop_reason="asha" if stopped else "budget",
        )
    for row, last in ((WINNER, 880.0), ("baseline", 400.0)):
        values = search_values(3) if row == WINNER else None
        more = {"row": row, "values": values}
        tables.trial(f"validation-{row}-0", curve(last), phase="validation", **more)
        tables.trial(f"test-{row}-0", curve(last - 20), phase="test", **more)
        tables.trial(f"test-{row}-1", curve(last - 60), phase="test", **more)
    tables.trial("test-task_score-0", curve(700.0), phase="test", row="task_score")
    folder = tables.conclude(WINNER, 165.0)
    (folder / "media").mkdir()
    for row in (WINNER, "baseline"):
        path = folder / "media" / f"validation-{row}-0"
        Image.new("RGB", (1700, 150), "#2f6f9f").save(path.with_suffix(".png"))
        path.with_suffix(".mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(1000))
    return folder


class Page(HTMLParser):
    """What a browser finds in a page: its figures, its text, and all that it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.figures: dict[str, Any] = {}
        self.sections: dict[str, str] = {}
        self.loaded: list[str] = []
        self.styles, self.text, self.tags = "", "", set()
        self._place, self._script, self._section = "", "", ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._place = tag
        self.tags.add(tag)
        self._script = str(named.get("id")) if named.get("type") == "application/json" else ""
        if tag == "section":
            self._section = str(named["id"])
            self.sections[self._section] = ""
        loads = ("src", "srcset", "href", "poster", "data", "action", "background")
        self.loaded += [str(named[name]) for name in loads if named.get(name)]
        self.styles += named.get("style") or ""

    def handle_endtag(self, tag: str) -> None:
        self._place = ""

    def handle_data(self, data: str) -> None:
        if self._script and self._place == "script":
            self.figures[self._script.removesuffix("-data")] = json.loads(data)
        elif self._place == "style":
            self.styles += data
        elif self._place != "script":
            self.text += data
            if self._section:
                self.sections[self._section] += data


def values_in(figure: Mapping[str, Any]) -> list[Any]:
    """Every number that a figure's traces draw."""
    found: list[Any] = []
    for trace in figure["data"]:
        found += trace.get("x", [])
        for dimension in trace.get("dimensions", []):
            found += dimension["values"]
    return found
