"""Charts as plain data: what is drawn, said once for the page and for the PNG files.

``png_charts.py`` beside this file draws a chart with matplotlib, ``plotly_charts.py`` with Plotly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BLUE, ORANGE, RED, *_ = ROW_COLORS = ("#2f6f9f", "#d9822b", "#c0392b", "#4f9d69", "#8e5ea2")
GREY, DARK = "#9aa5b1", "#3d4852"
SCALE = ("#dfe5ea", "#8fb3cc", "#2f6f9f", "#12324a")  # from the worst to the best


@dataclass(frozen=True)
class Line:
    """A line through points; ``about`` is shown under the mouse.

    A faint one is drawn thin, and does not stand for its label in a legend.
    """

    x: Sequence[float]
    y: Sequence[float]
    color: str
    label: str | None = None
    width: float = 1.5
    is_dashed: bool = False
    is_faint: bool = False
    about: str = ""


@dataclass(frozen=True)
class Dots:
    """A dot a point; ``about`` has a text for each."""

    x: Sequence[float]
    y: Sequence[float]
    color: str
    label: str | None = None
    size: float = 8.0
    opacity: float = 1.0
    is_hollow: bool = False
    is_diamond: bool = False
    about: Sequence[str] = ()


@dataclass(frozen=True)
class Interval:
    """A horizontal bar from ``low`` to ``high`` at height ``y``; ``about`` says of what."""

    low: float
    high: float
    y: float
    color: str
    about: str


@dataclass(frozen=True)
class Bars:
    """Horizontal bars at heights ``y``."""

    y: Sequence[float]
    lengths: Sequence[float]
    color: str


@dataclass(frozen=True)
class ParallelAxis:
    """One upright axis of parallel coordinates: values as shares of its height."""

    title: str
    shares: Sequence[float]
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates, a line for each of ``values``, which colours it."""

    axes: Sequence[ParallelAxis]
    values: Sequence[float]
    values_title: str


Mark = Line | Dots | Interval | Bars | Parallel
Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ticks that are not given are left to whoever draws."""

    marks: Sequence[Mark]
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    is_log: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_ticks: Ticks | None = None
    y_ticks: Ticks | None = None


@dataclass(frozen=True)
class Chart:
    """A figure: panels in rows of ``columns``.

    Attributes:
        name: of its PNG file, and its place in the page.
        title: what one sees.
        panels: read row by row.
        columns: panels in a row.
        row_height: of a row of panels, in pixels of the page.
        note: what to know when reading it.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    columns: int = 1
    row_height: int = 400
    note: str = ""
