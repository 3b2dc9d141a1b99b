"""Charts as Plotly figures, in plain JSON values that a page can hold."""

from html import escape
from typing import Any

import numpy as np
from plotly.graph_objects import Figure, Parcoords, Scatter
from plotly.subplots import make_subplots

from tuners.report.charts import (
    DARK,
    GREY,
    SCALE,
    Bars,
    Chart,
    Dots,
    Interval,
    Line,
    Mark,
    Panel,
    Parallel,
)

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_GRID = "#e9edf1"
_AXIS = {
    "showline": True,
    "linecolor": "#c5cdd5",
    "gridcolor": _GRID,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#c5cdd5",
    "automargin": True,
    "title_standoff": 6,
}
_BELOW = 52  # pixels for the axis below
_LEGEND, _PANEL_TITLE = 30, 24
_PARALLEL_ABOVE = 150  # names of parameters stand on a slant


def to_plotly(chart: Chart) -> dict[str, Any]:
    """Returns the figure's ``data`` and ``layout``; texts are escaped, as Plotly reads HTML."""
    first = next(iter(chart.panels[0].marks), None)
    figure = _parallel(chart, first) if isinstance(first, Parallel) else _panels(chart)
    figure.update_layout(
        template=None,
        font={"family": FONT, "size": 12, "color": DARK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=chart_height(chart),
        hoverlabel={"font": {"family": FONT, "size": 12}},
        modebar={"bgcolor": "rgba(255,255,255,0)", "color": GREY, "activecolor": DARK},
        legend={"orientation": "h", "x": 0, "y": 0.995, "yanchor": "top", "yref": "container"},
    )
    found = figure.to_dict()
    found["layout"].pop("template", None)
    return _plain(found)


def chart_height(chart: Chart) -> int:
    """Returns the height of a chart in a page, in pixels."""
    rows = -(-len(chart.panels) // chart.columns)
    return rows * chart.row_height + _above(chart)


def _above(chart: Chart) -> int:
    """Returns the room above the first row: for the legend and the titles, where there are any."""
    marks = [mark for panel in chart.panels for mark in panel.marks]
    labelled = any(isinstance(mark, Line | Dots) and mark.label is not None for mark in marks)
    titled = any(panel.title for panel in chart.panels)
    return 12 + _LEGEND * labelled + _PANEL_TITLE * titled


def _panels(chart: Chart) -> Figure:
    columns = min(chart.columns, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    height = chart_height(chart) - _above(chart) - _BELOW
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[f"<b>{escape(panel.title)}</b>" for panel in chart.panels],
        horizontal_spacing=0.075 if columns > 1 else 0.0,
        vertical_spacing=min(0.9 / max(rows - 1, 1), 78 / height) if rows > 1 else 0.0,
    )
    figure.update_annotations(font={"size": 12, "color": DARK})
    labelled: set[str] = set()
    for number, panel in enumerate(chart.panels):
        where = {"row": number // columns + 1, "col": number % columns + 1}
        for mark in panel.marks:
            for trace in _traces(mark, panel, labelled):
                figure.add_trace(trace, **where)
        figure.update_xaxes(**_axis(panel, "x"), **where)
        figure.update_yaxes(**_axis(panel, "y"), **where)
    return figure.update_layout(
        margin={"l": 60, "r": 16, "t": _above(chart), "b": _BELOW},
        hovermode="closest",
    )


def _axis(panel: Panel, which: str) -> dict[str, Any]:
    ticks = panel.x_ticks if which == "x" else panel.y_ticks
    ends = panel.x_range if which == "x" else panel.y_range
    is_log = which == "x" and panel.is_log
    axis = {**_AXIS, "title_text": escape(panel.x_title if which == "x" else panel.y_title)}
    if ticks is not None:
        axis |= {"tickvals": [at for at, _ in ticks], "ticktext": [escape(t) for _, t in ticks]}
    if ends is not None:
        axis["range"] = [float(np.log10(end)) for end in ends] if is_log else list(ends)
    if is_log:
        axis["type"] = "log"
    if which == "y" and ticks is not None:
        axis |= {"showgrid": False}
    return axis


def _traces(mark: Mark, panel: Panel, labelled: set[str]) -> list[Scatter]:
    if isinstance(mark, Line):
        return [_line(mark, labelled)]
    if isinstance(mark, Dots):
        return [_dots(mark, panel, labelled)]
    if isinstance(mark, Interval):
        ends = {"x": [mark.low, mark.high], "y": [mark.y, mark.y]}
        about = f"{mark.about}: {mark.low:.3g} to {mark.high:.3g}"
        line = {"color": mark.color, "width": 3}
        return [Scatter(**ends, mode="lines", line=line, showlegend=False, **_hover(about))]
    assert isinstance(mark, Bars)
    return [
        Scatter(
            x=[0, length],
            y=[y, y],
            mode="lines",
            line={"color": mark.color, "width": 11},
            showlegend=False,
            **_hover(f"{length:.3f}"),
        )
        for y, length in zip(mark.y, mark.lengths, strict=True)
    ]


def _line(mark: Line, labelled: set[str]) -> Scatter:
    return Scatter(
        x=mark.x,
        y=mark.y,
        # A line of one point could not be seen.
        mode="lines" if len(mark.x) > 1 else "markers",
        marker={"color": mark.color, "size": 5},
        line={
            "color": mark.color,
            "width": 0.8 if mark.is_faint else mark.width,
            "dash": "dot" if mark.is_dashed else "solid",
        },
        opacity=0.3 if mark.is_faint else 1.0,
        **_legend(mark.label, labelled, is_faint=mark.is_faint),
        **_hover(mark.about, "%{x:.4g}, %{y:.4g}"),
    )


def _dots(mark: Dots, panel: Panel, labelled: set[str]) -> Scatter:
    shape = "diamond" if mark.is_diamond else "circle"
    # Where an axis has names, dots are moved apart along it.
    has_names = panel.x_ticks is not None and not panel.is_log, panel.y_ticks is not None
    axes = zip(("%{x:.4g}", "%{y:.4g}"), has_names, strict=True)
    numbers = ", ".join(number for number, is_name in axes if not is_name)
    return Scatter(
        x=mark.x,
        y=mark.y,
        mode="markers",
        marker={
            "color": mark.color,
            "size": mark.size,
            "symbol": f"{shape}-open" if mark.is_hollow else shape,
            "line": {"width": 1.2, "color": mark.color if mark.is_hollow else "white"},
        },
        opacity=mark.opacity,
        **_legend(mark.label, labelled),
        text=[escape(text) for text in mark.about],
        hovertemplate=("%{text}<br>" if mark.about else "") + numbers + "<extra></extra>",
    )


def _legend(label: str | None, labelled: set[str], *, is_faint: bool = False) -> dict[str, Any]:
    """Returns what puts a label into the legend once, and lets it switch all that share it."""
    if label is None:
        return {"showlegend": False}
    is_first = label not in labelled and not is_faint
    if is_first:
        labelled.add(label)
    return {"name": escape(label), "legendgroup": escape(label), "showlegend": is_first}


def _hover(about: str, numbers: str = "") -> dict[str, Any]:
    if not about:
        return {"hoverinfo": "skip"}
    parts = [escape(about), *([numbers] if numbers else [])]
    return {"hovertemplate": "<br>".join(parts) + "<extra></extra>"}


def _parallel(chart: Chart, mark: Parallel) -> Figure:
    steps = np.linspace(0.0, 1.0, len(SCALE))
    trace = Parcoords(
        labelangle=-30,
        labelfont={"size": 11},
        tickfont={"size": 10},
        line={
            "color": list(mark.values),
            "colorscale": [[float(at), color] for at, color in zip(steps, SCALE, strict=True)],
            "showscale": True,
            "colorbar": {
                "title": {"text": escape(mark.values_title), "side": "right"},
                "thickness": 12,
                "outlinewidth": 0,
            },
        },
        dimensions=[
            {
                "label": escape(axis.title),
                "values": list(axis.shares),
                "range": [0, 1],
                "tickvals": [at for at, _ in axis.ticks],
                "ticktext": [escape(text) for _, text in axis.ticks],
            }
            for axis in mark.axes
        ],
    )
    return Figure(trace).update_layout(margin={"l": 60, "r": 20, "t": _PARALLEL_ABOVE, "b": 24})


def _plain(value: Any) -> Any:
    """Returns lists and Python numbers in place of arrays, and None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
