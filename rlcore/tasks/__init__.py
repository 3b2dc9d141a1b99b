"""The registry of tasks: a new task is one file and one line here."""

from rlcore.tasks.swingup import SwingUp

TASKS = {
    "swingup": SwingUp,
}
