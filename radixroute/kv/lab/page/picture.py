"""One plot as a small SVG, for documents: no script, light and dark by the reader's own scheme.

Pure.
"""

from radixroute.kv.lab.page.svg import Frame, Scale, number
from radixroute.kv.lab.records import Kind, Plot, Series

WIDTH = 620
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 604, 34, 236
_STYLE = (
    "<style>svg{--ink:#0b0b0b;--soft:#52514e;--grid:#e1e0d9;--axis:#c3c2b7;--k0:#2a78d6;--k1:#c77700;"
    "--k2:#1a9a6b;--k3:#d13c3b;--k4:#6a5acd;--k5:#c14f86;--k6:#5c7f00}"
    "@media(prefers-color-scheme:dark){svg{--ink:#f4f3ef;--soft:#c3c2b7;--grid:#3a3a37;--axis:#5c5c57;"
    "--k0:#4f97ee;--k1:#e39a1f;--k2:#2fb787;--k3:#ef6f6e;--k4:#9a8ff0;--k5:#e07fae;--k6:#93b52c}}"
    'text{font:12px system-ui,"Segoe UI","DejaVu Sans",sans-serif;fill:var(--ink)}'
    ".title{font-size:14px;font-weight:600}.tick,.label{fill:var(--soft);font-size:11px}"
    ".mid{text-anchor:middle}.end{text-anchor:end}line.grid{stroke:var(--grid)}"
    ".axis{stroke:var(--axis)}.line{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".bound{stroke-dasharray:6 4}"
    + "".join(f".c{i}{{stroke:var(--k{i})}}.f{i}{{fill:var(--k{i})}}" for i in range(7))
    + "</style>"
)


def picture_svg(plot: Plot) -> str:
    """About 6 kB."""
    height = _BOTTOM + (80 if len(plot.series) > 1 else 46)  # with a legend, or without
    frame = Frame(WIDTH, height, _x_scale(plot), _y_scale(plot))
    frame.text(0, 16, plot.title, "title")
    if plot.kind is Kind.BARS:
        _bars(plot, frame)
    else:
        frame.axes("{:,g}", "{:,g}", plot.x_label, "")
        for at, series in enumerate(plot.series):
            _curve(plot, series, at % 7, frame)
    frame.text(0, _TOP - 4 - 2, plot.y_label, "label")
    _legend(plot, frame)
    svg = frame.svg(plot.title).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, _, rest = svg.partition(">")
    return f"{head}>{_STYLE}{rest}\n"


def _curve(plot: Plot, series: Series, color: int, frame: Frame) -> None:
    if series.is_formula or plot.kind is Kind.LINES:
        frame.line(series.xs, series.ys, f"c{color}{' bound' if series.is_formula else ''}")
    if series.is_formula or len(series.xs) > 24:
        return
    for x, y in zip(series.xs, series.ys, strict=True):
        place = f'cx="{number(frame.x(x))}" cy="{number(frame.y(y))}"'
        frame.marks.append(f'<circle class="f{color}" {place} r="3.2"/>')


def _bars(plot: Plot, frame: Frame) -> None:
    n = len(plot.series)
    slot = (_RIGHT - _LEFT) / len(plot.categories)
    width = min(46.0, 0.8 * slot / n)
    for value in frame.y.ticks():
        y = number(frame.y(value))
        frame.marks.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>')
        frame.text(_LEFT - 6, frame.y(value) + 4, f"{value:,g}", "tick end")
    for at, series in enumerate(plot.series):
        for x, value in zip(series.xs, series.ys, strict=True):
            left = _LEFT + (x + 0.5) * slot + (at - n / 2) * width
            top, bottom = sorted((frame.y(value), frame.y(0.0)))
            frame.marks.append(
                f'<rect class="f{at % 7}" x="{number(left)}" y="{number(top)}"'
                f' width="{number(width - 2)}" height="{number(bottom - top)}"/>'
            )
    for at, name in enumerate(plot.categories):
        for line, words in enumerate(_lines(name, max(8, int(slot / 7)))):
            frame.text(_LEFT + (at + 0.5) * slot, _BOTTOM + 16 + 13 * line, words, "tick mid")


def _legend(plot: Plot, frame: Frame) -> None:
    if len(plot.series) < 2:
        return
    x, y = float(_LEFT), _BOTTOM + 56.0
    for at, series in enumerate(plot.series):
        width = 26 + 6.6 * len(series.name)
        if x + width > _RIGHT and x > _LEFT:
            x, y = float(_LEFT), y + 18
        dash = " bound" if series.is_formula else ""
        frame.marks.append(
            f'<line class="line c{at % 7}{dash}" x1="{number(x)}" x2="{number(x + 16)}"'
            f' y1="{number(y - 4)}" y2="{number(y - 4)}"/>'
        )
        frame.text(x + 21, y, series.name)
        x += width + 10


def _lines(words: str, most: int) -> list[str]:
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _x_scale(plot: Plot) -> Scale:
    values = [x for series in plot.series for x in series.xs]
    low, high = (min(values) if plot.is_log_x else 0.0), max(values)
    return Scale(low, max(high, low * 1.01 + 1e-9), _LEFT, _RIGHT, plot.is_log_x)


def _y_scale(plot: Plot) -> Scale:
    values = [y for series in plot.series for y in series.ys]
    if plot.is_log_y:
        low, high = min(values) / 1.2, max(values) * 1.2
        return Scale(low, high, _BOTTOM, _TOP, is_log=True)
    return Scale(min(0.0, *values), max(1e-9, *values) * 1.08, _BOTTOM, _TOP)
