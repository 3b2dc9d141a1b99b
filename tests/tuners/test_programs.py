"""Compiled programs, without compiling."""

import hashlib
from types import SimpleNamespace

from tuners import programs


def test_a_lock_that_cannot_be_had_keeps_nobody_from_compiling(tmp_path, monkeypatch):
    """It only spares a second compile; in a folder for all it may be another user's file."""
    monkeypatch.setattr(programs, "use_compilation_cache", lambda: tmp_path)
    monkeypatch.setattr(programs, "_programs", {})
    key = ("swingup", "a config")
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    (tmp_path / f"{name}.lock").mkdir()
    lowered = SimpleNamespace(compile=lambda: "compiled")
    assert programs._compiled(key, lambda: lowered) == "compiled"
