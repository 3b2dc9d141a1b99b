"""Score an exported policy from hanging starts, and film it.

Prints the score (0 to 1000) and its companions.  Takes a few seconds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Flags:
    """Which policy, from how many starts."""

    export: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="EXPORT")]
    """Folder that export_best.py wrote."""
    episodes: int = 100
    """Hanging starts."""
    seed: int = 0
    """Decides the starts."""
    video: Path | None = None
    """Where to write an mp4 of one hanging start and two from any angle."""


def main(flags: Flags) -> int:
    """Evaluates and prints."""
    from rich.console import Console
    from rich.table import Table

    from tuners.evaluation import evaluate_export

    scores, recording = evaluate_export(flags.export, flags.episodes, flags.seed)
    table = Table(title=f"{flags.export}: {flags.episodes} hanging starts")
    table.add_column("")
    table.add_column("mean", justify="right")
    for name, value in scores.items():
        table.add_row(name.replace("_", " "), f"{value:.2f}")
    Console().print(table)
    if flags.video is not None:
        from rlcore.video import write_video

        flags.video.parent.mkdir(parents=True, exist_ok=True)
        write_video(flags.video, recording)
        print(f"video: {flags.video}")
    return 0


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
