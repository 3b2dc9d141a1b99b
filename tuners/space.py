"""The search space: typed domains by name; ``tuners/config.py`` has where each name goes.

A name is routed by its form: ``reward.<term>.<parameter>`` and ``reward.combine`` to the reward
shape, ``task.<constant>`` to the task, and a plain name to PPO's hyperparameters (traced) or its
static config (one compile per value).
"""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuners.errors import BadInput
from tuners.reading import read_yaml

MAX_GRID = 100_000
_EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")


@dataclass(frozen=True)
class Uniform:
    """Any number between ``low`` and ``high``."""

    low: float
    high: float

    def sample(self, generator: np.random.Generator) -> float:
        """Returns a number drawn uniformly."""
        return float(generator.uniform(self.low, self.high))

    def contains(self, value: Any) -> bool:
        """Returns whether ``value`` is one of the domain's."""
        return is_number(value) and self.low <= value <= self.high

    def extremes(self) -> tuple[Any, ...]:
        """Returns the values between which all others lie."""
        return (self.low, self.high)

    def fraction(self, value: float) -> float:
        """Returns how far ``value`` lies from ``low`` (0) to ``high`` (1), as it is drawn."""
        return (value - self.low) / (self.high - self.low)

    def at(self, fraction: float) -> float:
        """Returns the value that lies so far in the range; the inverse of ``fraction``."""
        return self.low + fraction * (self.high - self.low)

    def moved(
        self, value: float, step: float, redrawn: float, generator: np.random.Generator
    ) -> float:
        """Returns a value near this one: a normal step, as a share of the range."""
        inside = min(max(value, self.low), self.high)
        fraction = self.fraction(inside) + step * generator.standard_normal()
        return min(max(self.at(min(max(fraction, 0.0), 1.0)), self.low), self.high)

    def to_yaml(self) -> Any:
        """Returns the form a space file has it in."""
        return {"uniform": [self.low, self.high]}


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Any positive number, its logarithm uniform between those of ``low`` and ``high``."""

    def sample(self, generator: np.random.Generator) -> float:
        """Returns a number drawn uniformly in log space."""
        drawn = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)  # exp(log(low)) may differ in the last digit

    def fraction(self, value: float) -> float:
        """Returns how far ``value`` lies from ``low`` (0) to ``high`` (1) in log space."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def at(self, fraction: float) -> float:
        """Returns the value that lies so far in the range; the inverse of ``fraction``."""
        return float(self.low * (self.high / self.low) ** fraction)

    def to_yaml(self) -> Any:
        """Returns the form a space file has it in."""
        return {"log_uniform": [self.low, self.high]}


@dataclass(frozen=True)
class OneMinusLogUniform(Uniform):
    """Any number below 1, the logarithm of its distance from 1 uniform: for discounts."""

    def sample(self, generator: np.random.Generator) -> float:
        """Returns a number whose distance from 1 is drawn uniformly in log space."""
        return min(max(1.0 - self._distance.sample(generator), self.low), self.high)

    def fraction(self, value: float) -> float:
        """Returns how far ``value`` lies from ``low`` (0) to ``high`` (1), as it is drawn."""
        return 1.0 - self._distance.fraction(1.0 - value)

    def at(self, fraction: float) -> float:
        """Returns the value that lies so far in the range; the inverse of ``fraction``."""
        return 1.0 - self._distance.at(1.0 - fraction)

    @property
    def _distance(self) -> LogUniform:
        return LogUniform(1.0 - self.high, 1.0 - self.low)

    def to_yaml(self) -> Any:
        """Returns the form a space file has it in."""
        return {"one_minus_log_uniform": [self.low, self.high]}


@dataclass(frozen=True)
class Choice:
    """One of ``values``; a single one fixes the parameter."""

    values: tuple[Any, ...]

    def sample(self, generator: np.random.Generator) -> Any:
        """Returns one of the values, all equally likely."""
        return self.values[int(generator.integers(len(self.values)))]

    def contains(self, value: Any) -> bool:
        """Returns whether ``value`` is one of the domain's."""
        return value in self.values

    def moved(self, value: Any, step: float, redrawn: float, generator: np.random.Generator) -> Any:
        """Returns this value, or one drawn anew in a share ``redrawn`` of the cases."""
        return self.sample(generator) if generator.random() < redrawn else value

    def extremes(self) -> tuple[Any, ...]:
        """Returns every value."""
        return self.values

    def to_yaml(self) -> Any:
        """Returns the form a space file has it in."""
        return {"choice": list(self.values)}


_RANGE_KINDS: dict[str, type[Uniform]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "one_minus_log_uniform": OneMinusLogUniform,
}
Domain = Uniform | LogUniform | OneMinusLogUniform | Choice
Space = Mapping[str, Domain]


def sample(space: Space, seed: int, number: int) -> dict[str, Any]:
    """Returns trial ``number``'s values: the same for the same seed, whatever was drawn before."""
    generator = np.random.default_rng([seed, number])
    return {name: space[name].sample(generator) for name in sorted(space)}


def grid(space: Space) -> list[dict[str, Any]]:
    """Returns every combination of the choices in ``space``, the last name varying fastest.

    Raises:
        BadInput: a domain is no choice, or there are more than MAX_GRID combinations.
    """
    names = sorted(space)
    size = 1
    for name in names:
        domain = space[name]
        if not isinstance(domain, Choice):
            raise BadInput(f"searcher grid needs {name} as {{choice: [...]}}, not as a range")
        size *= len(domain.values)
    if size > MAX_GRID:
        raise BadInput(f"the grid has {size} points, but may have at most {MAX_GRID}")
    choices = [space[name].extremes() for name in names]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]


def parse_space(entries: Any) -> dict[str, Domain]:
    """Returns the space that a mapping from names to domains describes.

    A domain is ``{uniform: [low, high]}``, ``{log_uniform: [low, high]}``,
    ``{one_minus_log_uniform: [low, high]}``, ``{choice: [...]}`` or a plain value, which fixes the
    parameter.

    Raises:
        BadInput: an ill-formed domain.
    """
    if not isinstance(entries, dict) or not entries:
        raise BadInput("a search space must map at least one parameter name to its domain")
    return {str(name): _parse_domain(str(name), entry) for name, entry in entries.items()}


def parse_stored_space(entries: Any) -> dict[str, Domain]:
    """Returns the space that a sweep was begun with; that of a single run is empty.

    Raises:
        BadInput: an ill-formed domain.
    """
    return {} if entries == {} else parse_space(entries)


def load_space(path: Path) -> dict[str, Domain]:
    """Returns the space in a YAML file.

    Raises:
        BadInput: the file cannot be read, is no YAML, or holds an ill-formed domain.
    """
    entries = read_yaml(path, "search space")
    try:
        return parse_space(entries)
    except BadInput as error:
        raise BadInput(f"search space {path}: {error}") from error


def _parse_domain(name: str, entry: Any) -> Domain:
    if isinstance(entry, str | bool | int | float):
        return Choice((entry,))
    if not isinstance(entry, dict) or len(entry) != 1:
        raise BadInput(
            f"{name} is {entry!r}; allowed: {{uniform: [low, high]}}, {{log_uniform: [low, high]}},"
            " {one_minus_log_uniform: [low, high]}, {choice: [...]}, or a plain value"
        )
    ((kind, values),) = entry.items()
    if kind == "choice":
        return _parse_choice(name, values)
    if kind not in _RANGE_KINDS:
        raise BadInput(f"{name} has domain '{kind}'; allowed: {', '.join(_RANGE_KINDS)}, choice")
    return _parse_range(name, kind, values)


def _parse_choice(name: str, values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        raise BadInput(f"{name} has choice {values!r}, but must list at least one value")
    for value in values:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str | bool | int | float) for part in parts):
            raise BadInput(f"{name} has choice {value!r}; allowed: text, numbers, true and false")
    return Choice(tuple(map(as_choice, values)))


def as_choice(value: Any) -> Any:
    """Returns a value read from YAML as a choice holds it: a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _parse_range(name: str, kind: str, values: Any) -> Uniform:
    numbers = isinstance(values, list) and len(values) == 2
    if not numbers or not all(is_number(value) for value in values):
        raise BadInput(
            f"{name} has {kind} {values!r}, but must give two finite numbers [low, high]"
            f"{hint_for_text(values)}"
        )
    low, high = float(values[0]), float(values[1])
    if low >= high:
        raise BadInput(
            f"{name} has {kind} [{low:g}, {high:g}]: the lower bound must be below the upper"
        )
    if kind == "log_uniform" and low <= 0:
        raise BadInput(f"{name} has log_uniform [{low:g}, {high:g}]: a log range must stay above 0")
    if kind == "one_minus_log_uniform" and high >= 1:
        raise BadInput(f"{name} has {kind} [{low:g}, {high:g}]: its range must stay below 1")
    return _RANGE_KINDS[kind](low, high)


def hint_for_text(value: Any) -> str:
    """Returns how to write what YAML took for text although it looks like a number: 1e-3."""
    texts = value if isinstance(value, list) else [value]
    looks = any(isinstance(text, str) and _EXPONENT.fullmatch(text) for text in texts)
    hint = "; in YAML a number with an exponent has a point and a sign, as 1.0e-3 or 1.0e+6"
    return hint if looks else ""


def is_number(value: Any) -> bool:
    """Returns whether ``value`` is a finite int or float; a bool is not."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
