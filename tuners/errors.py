"""The one error that a user is to read."""


class BadInput(ValueError):
    """A user's mistake, told in one plain line: what was given, and what is allowed."""
