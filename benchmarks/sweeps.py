"""How often a search beats the baseline, over sweeps with different seeds.

    python benchmarks/sweeps.py [FIRST_SEED] [LAST_SEED]    # 0 to 9: twenty minutes on two cores

Runs the laptop preset once a seed and prints each final table's figures, then their summary.  A
sweep that has finished already in runs/ is not run again.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tuners.job_names import BASELINE, TASK_SCORE
from tuners.validate import COLUMNS, Comparison


def sweep(seed: int) -> dict:
    """Returns ``comparison.json`` of the sweep with this seed, and how long it took."""
    name = f"bench-{seed}"
    path = Path("runs") / name / "comparison.json"
    begun = time.monotonic()
    if not path.exists():
        fresh = ["--preset", "laptop", "--seed", str(seed), "--name", name]
        script = Path(__file__).parent.parent / "sweeps" / "reward_search.py"
        how = ["--resume", name] if path.parent.exists() else fresh
        command = [sys.executable, str(script), *how]
        with (Path("runs").absolute().parent / f"{name}.log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
    return json.loads(path.read_text()) | {"seconds": time.monotonic() - begun}


def main(seeds: range) -> None:
    """Prints a line a sweep and the summary."""
    scores, beaten, beyond_score = [], 0, 0
    print(
        f"{'seed':>4} {'s':>5}  {'winner':12}" + "".join(f"{c.title:>38}" for c in COLUMNS.values())
    )
    for seed in seeds:
        result = sweep(seed)
        table, winner = result["table"], result["winner"]
        cells = ""
        for column in COLUMNS:
            ours, theirs = (table[row][column]["value"] for row in (winner, "baseline"))
            sure = result["improvement"].get("baseline", {}).get(column)
            shown = f"P {sure['value']:.2f} > {sure['low']:.2f}" if sure else ""
            cells += f"{ours:8.2f} vs {theirs:8.2f}  {shown:15}"
        print(f"{seed:4} {result['seconds']:5.0f}  {winner:12}{cells}", flush=True)
        scores.append(table[winner]["final_score"]["value"])
        comparison = Comparison.from_dict(result)
        beaten += bool(comparison.better_in(BASELINE))
        beyond_score += bool(comparison.better_in(TASK_SCORE))
    print(f"median final test score of the winners: {statistics.median(scores):.0f}")
    print(f"beats the baseline in at least one column: {beaten} of {len(scores)}")
    print(f"beats the score as reward in at least one: {beyond_score} of {len(scores)}")


if __name__ == "__main__":
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    last = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    main(range(first, last + 1))
