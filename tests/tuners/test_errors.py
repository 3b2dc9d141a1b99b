"""What went wrong, in a line."""

import pytest

from tuners.errors import in_a_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines\n  "), "ValueError: lines"),
        (
            ValueError("a\nKeyError: 'x'\n---\nFor simplicity, JAX has removed its"),
            "ValueError: KeyError: 'x'",
        ),
        (ValueError(), "ValueError: no reason given"),
        (OSError(28, "No space left"), "OSError: [Errno 28] No space left"),
    ],
)
def test_an_error_in_a_line(error, line):
    assert in_a_line(error) == line


def test_an_error_in_a_line_is_short():
    assert len(in_a_line(ValueError("x" * 1000))) == 200
