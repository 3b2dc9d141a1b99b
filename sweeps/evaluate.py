"""Score an exported policy, and film it.

Prints the score (0 to 1000) and its companions.  Takes a few seconds.

With --in the policy runs in a simulator that nobody here wrote, and its return there is printed: a
policy for balance in Gymnasium's CartPole-v1, one for dmc_swingup in the DeepMind Control Suite.
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
    """Evaluation episodes."""
    seed: int = 0
    """Decides the starts."""
    video: Path | None = None
    """Where to write an mp4 of three episodes; not with --in."""
    simulator: Annotated[str | None, tyro.conf.arg(name="in")] = None
    """gymnasium or dm_control; needs pip install 'shapesweep[simulators]'."""


def main(flags: Flags) -> int:
    """Evaluates and prints."""
    import jax
    from rich.table import Table

    from sweeps.cli import make_console
    from tuners.evaluation import evaluate_export
    from tuners.outputs import check_out_file

    if flags.video is not None:
        check_out_file(flags.video, "--video", ".mp4")
    if flags.simulator is not None:
        return _elsewhere(flags, flags.simulator)
    jax.config.update("jax_platforms", "cpu")  # quicker for so little, and in full float32
    scores, recording = evaluate_export(flags.export, flags.episodes, flags.seed)
    table = Table(title=f"{flags.export}: {flags.episodes} episodes")
    table.add_column("")
    table.add_column("mean", justify="right")
    for name, value in scores.items():
        table.add_row(name.replace("_", " "), f"{value:.2f}")
    make_console().print(table)
    if flags.video is not None:
        from rlcore.video import write_video

        flags.video.parent.mkdir(parents=True, exist_ok=True)
        write_video(flags.video, recording)
        print(f"video: {flags.video}")
    return 0


def _elsewhere(flags: Flags, simulator: str) -> int:
    import numpy as np

    from tuners.errors import BadInput
    from tuners.evaluation import check_episodes, load_export
    from tuners.simulators import check_simulator, returns_in

    if flags.video is not None:
        raise BadInput("--video films our own simulation; leave out --in")
    check_simulator(simulator)
    check_episodes(flags.episodes, flags.seed)
    config, policy = load_export(flags.export)
    returns = returns_in(simulator, policy, config, flags.episodes, flags.seed)
    print(
        f"return over {flags.episodes} episodes in {simulator}: mean {np.mean(returns):.1f},"
        f" lowest {np.min(returns):.1f}, highest {np.max(returns):.1f}"
    )
    return 0


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
