"""YAML and JSON that somebody else may have written: read in bounds, or refused in a line.

A few bytes of YAML can stand for gigabytes, where an alias names a list of aliases; text that is
nested deep enough ends a parser.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from tuners.errors import BadInput
from tuners.login import error_line

MAX_BYTES = 1_000_000
MAX_NODES = 100_000  # of 20 characters each; aliases count as what they stand for
MAX_DEPTH = 50
MAX_SCALAR = 2_000  # characters: of the digits of a number Python prints 4300


def read_yaml(path: Path, what: str) -> Any:
    """Returns what a YAML file holds: plain values, lists and maps.

    Args:
        path: the file.
        what: it is, for the message.

    Raises:
        BadInput: it cannot be read, is no YAML, or is larger than anything of ours.
    """
    try:
        text = _read_text(path)
        _check_size(text)
        return yaml.safe_load(text)
    except OSError as error:
        raise BadInput(f"{what} {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{what} {path} is not valid YAML: {error_line(error)}") from None


def read_json(path: Path) -> Any:
    """Returns what a JSON file of a sweep holds.

    Raises:
        BadInput: it cannot be read, or is damaged.
    """
    try:
        return json.loads(_read_text(path, 100 * MAX_BYTES))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged; restore it from a copy") from error


def _read_text(path: Path, most: int = MAX_BYTES) -> str:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode()


def _check_size(text: str) -> None:
    """Refuses what would grow without bounds, before anything is built.

    Raises:
        ValueError: what is too large.
        yaml.YAMLError: it is no YAML.
    """
    sizes: dict[str | None, int] = {}  # of what has an anchor
    begun: list[tuple[str | None, int]] = []  # anchor of each open list and map, and nodes before
    nodes = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1 + len(event.value) // 20
            nodes += sizes[event.anchor]
            if len(event.value) > MAX_SCALAR:
                raise ValueError(f"a value has more than {MAX_SCALAR:,} characters")
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, nodes))
            nodes += 1
            if len(begun) > MAX_DEPTH:
                raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            sizes[anchor] = nodes - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in dict(begun):
                raise ValueError(f"*{event.anchor} stands inside itself")
            nodes += sizes.get(event.anchor, 1)
        if nodes > MAX_NODES:
            raise ValueError(f"it stands for more than {MAX_NODES:,} values")
