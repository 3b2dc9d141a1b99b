"""The registry of tasks: a new task is one file and one line here."""

from typing import Any

from rlcore.tasks.balance import Balance
from rlcore.tasks.dmc_swingup import DMCSwingUp
from rlcore.tasks.swingup import SwingUp

TASKS: dict[str, Any] = {
    "swingup": SwingUp,
    "balance": Balance,
    "dmc_swingup": DMCSwingUp,
}
