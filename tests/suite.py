"""Which Pythons the Control Suite can be installed for, by the marker in pyproject.toml."""

import sys

import pytest

needs_suite = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="dm_control has no wheels for this Python"
)
