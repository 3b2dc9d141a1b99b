"""The one error that a user is to read, and what others say in a line."""


class BadInput(ValueError):
    """A user's mistake, told in one plain line: what was given, and what is allowed."""


_JAX_NOTICE = "For simplicity, JAX has removed"


def last_line(traceback: str) -> str:
    """Returns the line of a traceback that says what went wrong, or "" if it has none.

    Below it JAX adds a rule and a notice that frames are left out.
    """
    lines = (line.strip() for line in reversed(traceback.splitlines()))
    says = (line for line in lines if line.strip("-") and not line.startswith(_JAX_NOTICE))
    return next(says, "")


def in_a_line(error: BaseException | None) -> str:
    """Returns what went wrong; of the tracebacks that Ray sends, the last line says it."""
    return f"{type(error).__name__}: {last_line(str(error)) or 'no reason given'}"[:200]
