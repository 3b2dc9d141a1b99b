"""Find the PPO hyperparameters that solve a task soonest and best with the hand-tuned reward.

As reward_search.py, but in PPO's learning rate, discount, lambda, clip range, entropy bonus,
gradient norm, initial deviation and number of minibatches; the reward stays the hand-tuned one.
Trial 0 has the default settings.

On two cores and no GPU the preset `laptop` takes about two minutes.
"""

from sweeps.search_flags import Flags


def main(flags: Flags) -> int:
    """Runs the search and prints what it found."""
    from sweeps.search import run_search
    from tuners.default_spaces import hyperparameter_space

    return run_search(flags, hyperparameter_space, __file__)


if __name__ == "__main__":
    from sweeps.cli import run

    run(Flags, main, __doc__)
