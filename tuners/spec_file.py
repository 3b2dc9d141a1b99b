"""``sweep.yaml``: a sweep's description, the code that began it, and a checksum of both."""

import uuid
import zlib
from pathlib import Path
from typing import Any

import yaml

from rlcore.files import replacing
from tuners.errors import BadInput
from tuners.layout import SPEC_FILE
from tuners.reading import read_yaml
from tuners.versions import DECIDE_CURVES, code_version, git_revision, versions

_CHECKSUM = "crc32"  # of the lines above it, in the last
_ENTRIES = {"sweep_id", "spec", "code_version", "git_revision", "versions"}


def write_spec_file(folder: Path, spec: dict[str, Any]) -> None:
    """Writes a description; of a sweep that is there already, who began it stays."""
    if (folder / SPEC_FILE).exists():
        write_entries(folder, read_spec_file(folder) | {"spec": spec})
        return
    entries = {
        "sweep_id": uuid.uuid4().hex[:12],
        "spec": spec,
        "code_version": code_version(),
        "git_revision": git_revision(),
        "versions": versions(),
    }
    write_entries(folder, entries)


def write_entries(folder: Path, entries: dict[str, Any]) -> None:
    """Writes what the file holds beside its checksum."""
    text = yaml.safe_dump(entries, sort_keys=False)
    with replacing(folder / SPEC_FILE) as beside:
        beside.write_text(f"{text}{_checksum_line(text)}")


def read_spec_file(folder: Path) -> dict[str, Any]:
    """Returns what the file holds beside its checksum.

    Raises:
        BadInput: it is not as it was written.
    """
    path = folder / SPEC_FILE
    entries = read_yaml(path, "description")
    text = path.read_text()
    body = text.rpartition(f"{_CHECKSUM}: ")[0]
    if text != f"{body}{_checksum_line(body)}":
        raise BadInput("it is not as it was written (its checksum differs)")
    if not entries.keys() >= _ENTRIES or not isinstance(entries["versions"], dict):
        raise BadInput("it has other entries than it should")
    del entries[_CHECKSUM]
    return entries


def check_code_version(folder: Path) -> None:
    """Refuses to resume a sweep that another version of the trainer began.

    Raises:
        BadInput: the code, or a package or setting that decides a curve, differs.
    """
    entries = read_spec_file(folder)
    before = {"code version": entries["code_version"]}
    now = {"code version": code_version(), **versions()}
    # An older sweep does not say all.
    before |= {name: entries["versions"].get(name, now[name]) for name in DECIDE_CURVES}
    for name, value in before.items():
        if value != now[name]:
            raise BadInput(
                f"sweep '{folder.name}' was begun with {name} {value}, but this is {now[name]}: its"
                " curves would not continue; begin a new sweep, or go on with the one it had"
            )


def _checksum_line(text: str) -> str:
    return f"{_CHECKSUM}: '{zlib.crc32(text.encode()):08x}'\n"
