"""What the tests change in the cluster files that users have; tests/cluster/test_overlay.py counts.

What else stands in for a real machine is in its image, which ``tests/cluster/cloud.py`` and
``tests/cluster/test_onprem.py`` make: the packages, where trials train, the cloud's address.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"


@dataclass(frozen=True)
class Overlay:
    """A cluster file with some values in the place of others.

    Attributes:
        file: name of the cluster file.
        chosen: of the values at its top that a user has to choose.
        altered: other values, by key; there is one such key in the whole file.
    """

    file: str
    chosen: Mapping[str, str]
    altered: Mapping[str, str] = field(default_factory=dict)

    def apply(self, text: str) -> str:
        """Returns the text of the file with these values."""
        for name, value in self.chosen.items():
            text = self._replace(text, f"  {name}: &{name} ", value)
        for key, value in self.altered.items():
            text = self._replace(text, f"{key}: ", value)
        return text

    def _replace(self, text: str, start: str, value: str) -> str:
        text, count = re.subn(rf"(?m)^({start}).*$", lambda match: match[1] + value, text)
        assert count == 1, f"{self.file} has {count} lines that begin with '{start}'"
        return text


HEAD = "10.77.0.10"
WORKERS = {"w1": "10.77.0.11", "w2": "10.77.0.12"}
# The hosts share one virtual environment: installed it would take minutes for each.
ONPREM = Overlay(
    "cluster.onprem.yaml",
    chosen={
        "head": HEAD,
        "workers": f"[{', '.join(WORKERS.values())}]",
        "user": "root",
        "install": (
            f"ln -sfn {VENV} ~/shapesweep/.venv &&"
            " echo 'export PYTHONPATH=~/shapesweep' >> ~/.shapesweep_env &&"
            " make -C ~/shapesweep setup LOCK=requirements.lock"
        ),
    },
)

BUCKET = "sweeps"
# Idle workers go after half a minute: the test waits for it.
AWS = Overlay(
    "cluster.yaml",
    chosen={
        "store": f"echo 'export SHAPESWEEP_STORE=s3://{BUCKET}/shapesweep' > ~/.shapesweep_env",
        "image": "ami-00000000000000001",
        "max_workers": "3",
        "max_of_a_type": "1",
    },
    altered={"idle_timeout_minutes": "0.5"},
)
