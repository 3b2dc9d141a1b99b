"""The report's page: its look, and how tables, lists and figures become HTML.

Every text goes through ``escape``; only the functions here and in ``tuners/report/`` write tags.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape

from plotly.offline import get_plotlyjs

from tuners.report.charts import Chart, Parallel
from tuners.report.plotly_charts import FONT, chart_height, to_plotly

_STYLE = """
:root { --ink: #1f2933; --soft: #616e7c; --line: #e1e6eb; --blue: #2f6f9f; --paper: #fff; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; color: var(--ink); background: var(--paper); line-height: 1.5;
  font: 15px/1.5 FONT; }
main { max-width: 1100px; margin: 0 auto; padding: 36px 24px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 52px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 26px 0 6px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.soft, .note, figcaption small { color: var(--soft); }
.note { font-size: 13px; margin: 4px 0 0; max-width: 100ch; }
.verdict { font-size: 19px; font-weight: 600; margin: 22px 0 14px; max-width: none; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.tile b { display: block; font-size: 27px; line-height: 1.25; font-weight: 650; }
.tile span { display: block; font-size: 13px; color: var(--soft); }
.tile.first b { color: var(--blue); }
.warnings { border: 1px solid #ecd9a8; border-left: 4px solid #d9a21b; background: #fffaf0;
  border-radius: 6px; padding: 10px 18px; margin: 22px 0; }
.warnings h2 { border: 0; margin: 0; padding: 0; font-size: 15px; }
.warnings ul, .changes { margin: 6px 0; padding-left: 20px; }
.warnings li { margin: 3px 0; }
.fine { color: var(--soft); margin: 20px 0; }
nav { margin: 22px 0 0; font-size: 14px; }
nav a { display: inline-block; margin: 0 14px 4px 0; }
a { color: var(--blue); text-decoration: none; }
a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 10px 0 6px; font-variant-numeric: tabular-nums;
  font-size: 14px; }
th, td { padding: 6px 16px 6px 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
td:first-child { white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
tr.lead td { font-weight: 650; }
td span { color: var(--soft); font-weight: 400; white-space: nowrap; }
figure { margin: 18px 0 26px; }
figcaption { font-weight: 600; margin-bottom: 2px; }
.plot { width: 100%; }
.strips { display: grid; gap: 14px; }
.strips img, .films video { max-width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: 6px; display: block; }
.films { display: grid; gap: 18px; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: #f4f6f8;
  padding: 1px 5px; border-radius: 4px; }
footer { margin-top: 60px; padding-top: 14px; border-top: 1px solid var(--line);
  color: var(--soft); font-size: 13px; }
@media print {
  main { max-width: none; padding: 0; }
  nav, .films, .modebar { display: none; }
  figure, .tile, tr, .warnings { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
}
""".replace("FONT", FONT)

_SCRIPT = """
function draw(holder) {
  const figure = JSON.parse(document.getElementById(holder.id + '-data').textContent);
  Plotly.newPlot(holder, figure.data, figure.layout, {responsive: true, displaylogo: false,
    displayModeBar: matchMedia('(hover: hover)').matches ? 'hover' : false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d']});
}
const holders = Array.from(document.querySelectorAll('.plot'));
holders.forEach(draw);
const resize = () => holders.forEach(holder => Plotly.Plots.resize(holder));
window.addEventListener('beforeprint', resize);
"""


def page(title: str, body: Iterable[str]) -> str:
    """Returns a whole page that needs nothing from a network: Plotly's script is in it once."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # No picture of its own: a browser would ask the server for one.
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head><body><main>",
            *body,
            f"</main><script>{_SCRIPT}</script></body></html>",
            "",
        ]
    )


def figure(chart: Chart) -> str:
    """Returns a chart as a figure; its data stands in the page as JSON."""
    # In a script a browser looks for nothing but its end.
    data = json.dumps(to_plotly(chart), separators=(",", ":")).replace("<", "\\u003c")
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    name = f"figure-{escape(chart.name)}"
    # On a small screen panels side by side are scrolled to.
    first = next(iter(chart.panels[0].marks), None)
    axes = len(first.axes) if isinstance(first, Parallel) else 0
    min_width = max(320, 230 * chart.columns * (chart.columns > 1), 70 * axes)
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<div class="scroll"><div class="plot" id="{name}" role="img"'
        f' aria-label="{escape(chart.title)}"'
        f' style="height:{chart_height(chart)}px;min-width:{min_width}px"></div></div>{note}'
        f'<script type="application/json" id="{name}-data">{data}</script></figure>'
    )


def figure_or(chart: Chart | None, otherwise: str) -> str:
    """Returns the chart's figure, or a sentence that says why there is none yet."""
    return figure(chart) if chart is not None else paragraph(otherwise, "soft")


def paragraph(text: str, kind: str = "") -> str:
    """Returns a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(lines: Iterable[str], kind: str) -> str:
    """Returns a list of plain texts."""
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


Cell = str | tuple[str, str]


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    lead: str | None = None,
    texts: Sequence[int] = (0,),
) -> str:
    """Returns a table; a cell of two parts has the second in a softer colour.

    Args:
        titles: of the columns.
        rows: a cell for each.
        lead: first cell of the row to stress.
        texts: numbers of the columns that hold words, not figures.
    """

    def kind(number: int) -> str:
        return ' class="text"' if number in texts else ""

    head = "".join(f"<th{kind(i)}>{escape(title)}</th>" for i, title in enumerate(titles))
    body = []
    for row in rows:
        cells = "".join(f"<td{kind(i)}>{_cell(cell)}</td>" for i, cell in enumerate(row))
        body.append(f'<tr class="lead">{cells}</tr>' if row[0] == lead else f"<tr>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return f"{escape(cell[0])} <span>{escape(cell[1])}</span>"


def tile(number: str, about: str, kind: str = "") -> str:
    """Returns a number that is to be seen first, with what it is below."""
    return f'<div class="tile {kind}"><b>{escape(number)}</b><span>{escape(about)}</span></div>'


def section(name: str, title: str, parts: Iterable[str]) -> str:
    """Returns a section that the table of contents leads to."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'
