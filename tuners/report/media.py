"""Film strips and videos for the report: in the page where they are small, else as links."""

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from tuners.job_names import BASELINE, job_name
from tuners.layout import film_strip_path, video_path
from tuners.report.page import paragraph
from tuners.report.sweep_record import SweepRecord

STRIP_WIDTH = 1060  # pixels: the width of the page
_STRIP_COLORS = 128


def shown_trials(record: SweepRecord) -> dict[str, str]:
    """Returns the trial that stands for each row on show, with a label: winner, baseline, others.

    The first trial of a row in validation, or before there is one, in the search.
    """
    names = {trial["trial"] for trial in record.trials}
    shown = {}
    for row in _rows(record):
        validated, searched = job_name("validation", row, 0), record.search_name(row)
        name = validated if validated in names else searched
        if name is not None:
            shown[name] = record.row_label(row)
    return shown


def _rows(record: SweepRecord) -> list[str]:
    """Returns the rows on show: winner, baseline, finalists."""
    return [row for row in dict.fromkeys([record.winner, BASELINE, *record.finalists]) if row]


def film_strips(record: SweepRecord) -> list[str]:
    """Returns the film strips of winner, baseline and finalists, one below the other."""
    parts = []
    for trial, label in shown_trials(record).items():
        path = film_strip_path(record.spec.folder, trial)
        if path.exists():
            data = base64.b64encode(_small(path)).decode()
            parts.append(
                f'<div>{_title(label, trial)}<img alt="film strip of {escape(trial)}"'
                f' src="data:image/png;base64,{data}"></div>'
            )
    if not parts:
        return [paragraph("No film strip of a finalist or the baseline is drawn yet.", "soft")]
    return ['<div class="strips">', *parts, "</div>"]


def _title(label: str, trial: str) -> str:
    return f'<h3>{escape(label)} <small class="soft">{escape(trial)}</small></h3>'


def _small(path: Path) -> bytes:
    """Returns a picture as PNG, no wider than the page and in few colours."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > STRIP_WIDTH:
        height = round(picture.height * STRIP_WIDTH / picture.width)
        picture = picture.resize((STRIP_WIDTH, height), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.quantize(_STRIP_COLORS).save(written, "PNG", optimize=True)
    return written.getvalue()


def videos(record: SweepRecord, place: Path, room: int) -> list[str]:
    """Returns the videos of winner, baseline and finalists.

    Args:
        record: of the sweep.
        place: folder of the page: links are relative to it.
        room: bytes that the page has left; videos beyond it are linked.
    """
    parts: list[str] = []
    for trial, label in _films(record):
        path = video_path(record.spec.folder, trial)
        size = 4 * (path.stat().st_size + 2) // 3
        title = _title(label, trial)
        if size <= room:
            room -= size
            data = base64.b64encode(path.read_bytes()).decode()
            source = f"data:video/mp4;base64,{data}"
            parts.append(f'<div>{title}<video controls muted preload="metadata" src="{source}">')
            parts.append("</video></div>")
        else:
            link = quote(os.path.relpath(path, place))
            parts.append(f'<div>{title}<a href="{escape(link)}">{escape(path.name)}</a></div>')
    if not parts:
        return [paragraph("No video is drawn yet.", "soft")]
    return ['<div class="films">', *parts, "</div>"]


def _films(record: SweepRecord) -> Sequence[tuple[str, str]]:
    """Returns the trials that have a video, with the label of their row."""
    trials = sorted(record.trials, key=lambda trial: str(trial["trial"]))
    return [
        (trial["trial"], record.row_label(row))
        for row in _rows(record)
        for trial in trials
        if trial["row"] == row and video_path(record.spec.folder, trial["trial"]).exists()
    ]
