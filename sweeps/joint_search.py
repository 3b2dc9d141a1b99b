"""Find reward shape and PPO hyperparameters together.

As reward_search.py, but in the spaces of both: which learning rate is best depends on the reward,
and the other way round.  So it is Optuna's TPE that searches, unless a flag names another.

On two cores and no GPU the preset `laptop` takes about two minutes.
"""

from sweeps.search_flags import Flags


def main(flags: Flags) -> int:
    """Runs the search and prints what it found."""
    from sweeps.search import run_search
    from tuners.default_spaces import joint_space

    return run_search(flags, joint_space, __file__, searcher="tpe")


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
