"""Charts as inline SVG: small panels of one width, side by side on a page or, on a phone, one below another.

Colours come from the page's style sheet (`s0` to `s7` by series, `central`, `other`, `unsure` by verdict);
shapes, dashes and hatching say the same without colour. Every text is escaped; every panel has a title and
says its numbers in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 340
SERIES = 8
"""Colours; a ninth series has that of the first, and another shape."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "4 4", "1 3", "10 3 3 3")
_PLUS = "-.4 -1.2 .4 -1.2 .4 -.4 1.2 -.4 1.2 .4 .4 .4 .4 1.2 -.4 1.2 -.4 .4 -1.2 .4 -1.2 -.4 -.4 -.4"
_SHAPES = (
    "",  # a circle
    "-.9 -.9 .9 -.9 .9 .9 -.9 .9",
    "0 -1.15 1.1 .85 -1.1 .85",
    "0 -1.25 1.25 0 0 1.25 -1.25 0",
    "0 1.15 1.1 -.85 -1.1 -.85",
    _PLUS,
    "-1 -1.1 1 -1.1 -1 1.1 1 1.1",
    "0 -1.2 1.15 -.35 .7 1 -.7 1 -1.15 -.35",
)
"""Corners of the shapes, x and y in turn, in units of their size."""


@dataclass(frozen=True)
class Bar:
    """A row of a bar panel; shares are between 0 and 1."""

    label: str
    parts: tuple[tuple[str, float], ...]
    """(class, share) from the left."""
    low: float
    high: float
    text: str
    """The number as tables show it."""


@dataclass(frozen=True)
class Point:
    """A point of a scatter panel."""

    x: float
    y: float
    series: int
    label: str
    """What the pointer is told, if anything."""
    name: str = ""
    """Empty for a small point."""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A line of a curve panel."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    name: str = ""


def element(name: str, *children: str | Markup, **attributes: str | float) -> Markup:
    """One SVG element; `class_` is `class`, other underscores are dashes; all text is escaped."""
    written = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
    ]
    inside = Markup("").join(children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(written), inside)


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.1f}".removesuffix(".0")


def _panel(title: str, words: str, height: float, parts: Sequence[Markup]) -> Markup:
    head = (element("title", escape(title)), element("desc", escape(words)))
    # The view box's name has a capital letter, which no Python keyword should have.
    return Markup('<svg class="chart" role="img" viewBox="0 0 {} {}">{}</svg>').format(
        WIDTH, _number(height), Markup("").join([*head, *parts])
    )


def bars(title: str, rows: Sequence[Bar]) -> Markup:
    """Horizontal bars from 0 to 100 percent with their intervals, each under its name and number."""
    step, top = 34, 2
    height = top + step * len(rows) + 18
    parts = [
        element("line", class_="grid", x1=at, x2=at, y1=top, y2=height - 16)
        for at in (1 + _span(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    ]
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = 1 + _span(share) + (1 if anchor == "end" else 0)
        text = Markup(f"{100 * share:.0f} %")
        parts.append(element("text", text, class_="tick", x=at, y=height - 3, text_anchor=anchor))
    for number, row in enumerate(rows):
        parts += _bar(row, top + step * number)
    words = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return _panel(title, words, height, parts)


def _span(share: float) -> float:
    return share * (WIDTH - 2)


def _bar(row: Bar, top: float) -> list[Markup]:
    parts = [
        element("text", escape(_short(row.label, 34)), class_="name", x=1, y=top + 13),
        element("text", escape(row.text), class_="value", x=WIDTH - 1, y=top + 13, text_anchor="end"),
    ]
    start, middle = 1.0, top + 23
    for kind, share in row.parts:
        width = _span(share)
        if width > 0:
            parts.append(element("rect", class_=f"bar {kind}", x=start, y=middle - 5, width=width, height=10))
        start += width
    low, high = 1 + _span(row.low), 1 + _span(row.high)
    parts.append(element("line", class_="whisker", x1=low, x2=high, y1=middle, y2=middle))
    parts += [
        element("line", class_="whisker", x1=end, x2=end, y1=middle - 3.5, y2=middle + 3.5)
        for end in (low, high)
    ]
    return parts


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


class _Axes:
    """Two scales with ticks, grid and names around the plot."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        height: float,
        names: tuple[str, str],
        left: float,
    ) -> None:
        self.x_ticks, self.y_ticks = ticks(*x), ticks(*y)
        self.x_range = _widened(x, self.x_ticks)
        self.y_range = _widened(y, self.y_ticks)
        self.left, self.right, self.top, self.bottom = left, WIDTH - 10.0, 20.0, height - 34.0
        self.names = names
        self.height = height

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place of a value on the panel."""
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )

    def draw(self) -> list[Markup]:
        """Grid, ticks and names."""
        parts = []
        for tick in self.y_ticks:
            y = self.at(self.x_range[0], tick)[1]
            parts.append(element("line", class_="grid", x1=self.left, x2=self.right, y1=y, y2=y))
            parts.append(
                element("text", short(tick), class_="tick", x=self.left - 5, y=y + 4, text_anchor="end")
            )
        for tick in self.x_ticks:
            x = self.at(tick, self.y_range[0])[0]
            parts.append(element("line", class_="grid", x1=x, x2=x, y1=self.top, y2=self.bottom))
            parts.append(
                element("text", short(tick), class_="tick", x=x, y=self.bottom + 14, text_anchor="middle")
            )
        across, up = self.names
        middle = (self.left + self.right) / 2
        parts.append(
            element("text", escape(across), class_="axis", x=middle, y=self.height - 4, text_anchor="middle")
        )
        parts.append(element("text", escape(up), class_="axis", x=0, y=11))
        return parts


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` + 1 of them."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _widened(values: tuple[float, float], marks: Sequence[float]) -> tuple[float, float]:
    low, high = min([values[0], *marks]), max([values[1], *marks])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def short(value: float) -> str:
    """A number in few letters, for ticks and words."""
    text = f"{value:.3g}"
    return text if "e" not in text else text.replace("e-0", "e-").replace("e+0", "e")


def scatter(
    title: str,
    points: Sequence[Point],
    names: tuple[str, str],
    height: float = 300,
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
) -> Markup:
    """Points with their intervals; those with a name are large and labelled, where there is room for it.

    Args:
        x: range of the axis; of all points where it is not given. So with `y`.
    """
    x = x or _range([v for p in points for v in (p.x, *(p.x_range or ()))])
    y = y or _range([v for p in points for v in (p.y, *(p.y_range or ()))])
    axes = _Axes(x, y, height, names, left=36)
    parts = axes.draw()
    small = [point for point in points if not point.name]
    large = [point for point in points if point.name]
    for point in small:
        parts.append(_marker(point, axes, 3.2, "small"))
    for point in large:
        parts += _cross(point, axes)
    for point in large:
        parts.append(_marker(point, axes, 5.5, "large"))
    parts += _labels(large, axes)
    words = "; ".join(point.label for point in [*large, *small] if point.label)
    return _panel(title, words, height, parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _cross(point: Point, axes: _Axes) -> list[Markup]:
    parts = []
    for low, high, across in (
        (*(point.x_range or (point.x, point.x)), True),
        (*(point.y_range or (point.y, point.y)), False),
    ):
        x1, y1 = axes.at(low, point.y) if across else axes.at(point.x, low)
        x2, y2 = axes.at(high, point.y) if across else axes.at(point.x, high)
        parts.append(element("line", class_=f"cross s{point.series % SERIES}", x1=x1, y1=y1, x2=x2, y2=y2))
    return parts


def _marker(point: Point, axes: _Axes, size: float, kind: str) -> Markup:
    x, y = axes.at(point.x, point.y)
    return marker(point.series, x, y, size, kind, point.label)


def marker(series: int, x: float, y: float, size: float, kind: str, label: str = "") -> Markup:
    """The shape of a series: four solid ones, the same hollow, then four others; sixteen in all."""
    title = (element("title", escape(label)),) if label else ()
    fill = "solid" if series % SERIES < 4 else "hollow"
    class_ = f"marker {kind} {fill} s{series % SERIES}"
    numbers = [float(number) for number in _SHAPES[series % 4 + 4 * (series // SERIES % 2)].split()]
    if not numbers:
        return element("circle", *title, class_=class_, cx=x, cy=y, r=size)
    corners = zip(numbers[::2], numbers[1::2], strict=True)
    shape = " ".join(f"{_number(x + dx * size)},{_number(y + dy * size)}" for dx, dy in corners)
    return element("polygon", *title, class_=class_, points=shape)


def swatch(series: int) -> Markup:
    """The shape of a series by itself, for a key."""
    shape = marker(series, 8, 8, 5.5, "large")
    return Markup('<svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">{}</svg>').format(shape)


def _labels(points: Sequence[Point], axes: _Axes) -> list[Markup]:
    """Names beside their points, where that covers no other and leaves no doubt; the rest have the key."""
    places = [axes.at(point.x, point.y) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    crossed = [box for point in points for box in _cross_boxes(point, axes)]
    parts = []
    for number, point in enumerate(points):
        name = _short(point.name, 22)
        others = [place for at, place in enumerate(places) if at != number]
        free = [
            box
            for box in _label_boxes(*places[number], 6.6 * len(name))
            if _inside(box, axes)
            and not any(_overlap(box, other) for other in taken)
            and all(_distance(place, box) > _distance(places[number], box) + 4 for place in others)
        ]
        best = min(free, key=lambda box: sum(_overlap(box, other) for other in crossed), default=None)
        if best is not None:
            taken.append(best)
            parts.append(element("text", escape(name), class_="label", x=best[0], y=best[3] - 2))
    return parts


def _label_boxes(x: float, y: float, width: float) -> list[Box]:
    """Boxes around a point that a name may stand in, the best first."""
    corners = [(x + 9, y + 4), (x + 9, y - 5), (x + 9, y + 14), (x - 9 - width, y + 4)]
    corners += [
        (x - 9 - width, y - 5),
        (x - 9 - width, y + 14),
        (x - width / 2, y - 10),
        (x - width / 2, y + 19),
    ]
    return [(left, base - 10, left + width, base + 2) for left, base in corners]


def _distance(place: tuple[float, float], box: Box) -> float:
    across = max(box[0] - place[0], 0.0, place[0] - box[2])
    up = max(box[1] - place[1], 0.0, place[1] - box[3])
    return math.hypot(across, up)


def _inside(box: Box, axes: _Axes) -> bool:
    return box[0] >= axes.left and box[2] <= WIDTH and axes.top <= box[1] and box[3] <= axes.bottom


def _cross_boxes(point: Point, axes: _Axes) -> list[Box]:
    found = []
    x, y = axes.at(point.x, point.y)
    if point.x_range:
        found.append((axes.at(point.x_range[0], 0)[0], y - 1, axes.at(point.x_range[1], 0)[0], y + 1))
    if point.y_range:
        found.append((x - 1, axes.at(0, point.y_range[1])[1], x + 1, axes.at(0, point.y_range[0])[1]))
    return found


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def curves(
    title: str,
    lines: Sequence[Line],
    names: tuple[str, str],
    marks: Sequence[tuple[float, str]] = (),
    height: float = 190,
) -> Markup:
    """Lines over a common axis, named at their right ends; `marks` are upright lines with a word each."""
    ys = [y for line in lines for y in line.ys]
    low, high = _range(ys)
    # From zero where that costs little: a change then looks as large as it is.
    low = 0.0 if 0 < low < 0.6 * high else low
    axes = _Axes(_range([x for line in lines for x in line.xs]), (low, high), height, names, left=44)
    named = [line for line in lines if line.name]
    if named:
        axes.right -= 8 + 6.3 * max(len(_short(line.name, 14)) for line in named)
    parts = axes.draw()
    for at, word in marks:
        x = axes.at(at, axes.y_range[0])[0]
        parts.append(element("line", class_="stage", x1=x, x2=x, y1=axes.top, y2=axes.bottom))
        late = x > (axes.left + axes.right) / 2
        place = {"x": x - 4 if late else x + 4, "y": axes.bottom - 6}
        anchor = "end" if late else "start"
        parts.append(element("text", escape(word), class_="note", text_anchor=anchor, **place))
    for number, line in enumerate(lines):
        if len(line.xs) == 1:
            parts.append(marker(number, *axes.at(line.xs[0], line.ys[0]), 3.2, "large"))
        shape = " ".join(",".join(map(_number, axes.at(x, y))) for x, y in zip(line.xs, line.ys, strict=True))
        dash = _DASHES[number % SERIES]
        parts.append(
            element("polyline", class_=f"line s{number % SERIES}", points=shape, stroke_dasharray=dash)
        )
    parts += _line_names(lines, axes)
    words = "; ".join(
        f"{line.name + ': ' if line.name else ''}from {short(line.ys[0])} to {short(line.ys[-1])}"
        for line in lines
    )
    return _panel(title, words, height, parts)


def _line_names(lines: Sequence[Line], axes: _Axes) -> list[Markup]:
    """Names at the ends of the lines, moved apart where ends lie close."""
    ends = sorted((axes.at(line.xs[-1], line.ys[-1])[1], n) for n, line in enumerate(lines) if line.name)
    parts, floor = [], -math.inf
    for y, number in ends:
        floor = max(y, floor + 11)
        name = escape(_short(lines[number].name, 14))
        parts.append(element("text", name, class_="label", x=axes.right + 5, y=floor + 4))
    return parts
