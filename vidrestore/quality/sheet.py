"""What the pages of `vidrestore evaluate` and of a batch share: the sheet itself, and plots over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from string import Template

Curve = Sequence[tuple[float, float]]  # (seconds, value), rising in time


def sheet(title: str, body: str, *, own: str, images: str, **values: object) -> str:
    """A whole page that needs no network.

    title, body: HTML. own: the package whose ``page.css`` and ``page.js`` are laid on the common ones; ``values`` are
    put into its style. images: where pictures may come from, as a Content-Security-Policy says it.
    """
    style, script = (files(own).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    whole = Template(files("vidrestore.quality").joinpath("sheet.html").read_text("utf-8"))
    styled = Template(style).substitute(values)
    return whole.substitute(title=title, body=body, style=styled.strip(), script=script.strip(), images=images)


def plot(
    key: str,
    name: str,
    unit: str,
    curves: Mapping[str, Curve],
    shown: Callable[[float], str],
    span: tuple[float, float] | None = None,
) -> str:
    """A figure with curves over time, each drawn in the class of its name.

    shown: a value as text, for the ends of the axis. span: these ends, where they do not follow from the curves.
    """
    points = [point for curve in curves.values() for point in curve]
    t0, t1 = min(t for t, _ in points), max(t for t, _ in points)
    low, high = span or _around([value for _, value in points])
    lines = "".join(_line(role, curve, (t0, t1, low, high)) for role, curve in curves.items())
    beside = f" <small>{escape(unit)}</small>" if unit else ""
    return (
        f'<figure class=plot data-key="{key}"><figcaption>{escape(name)}{beside}</figcaption>'
        f"<div class=area><span class=high>{shown(high)}</span>"
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)} over time">{lines}</svg>'
        f"<span class=low>{shown(low)}</span>"
        f"<div class=times><span>{clock(t0)}</span><span>{clock(t1)}</span></div></div></figure>"
    )


def _around(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis a little beyond all values; it does not leave 0 where none does."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(high) * 0.01 or 1e-6
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _line(role: str, curve: Curve, box: tuple[float, float, float, float]) -> str:
    """A curve in a box of 1000 by 100; it breaks where there are no faces for long."""
    t0, t1, low, high = box
    steps = sorted(b[0] - a[0] for a, b in pairwise(curve)) or [0.0]
    longest = 3 * steps[len(steps) // 2] + 1e-9
    parts: list[list[tuple[float, float]]] = [[]]
    for i, point in enumerate(curve):
        if i and point[0] - curve[i - 1][0] > longest:
            parts.append([])
        parts[-1].append(point)

    def drawn(part: list[tuple[float, float]]) -> str:
        spots = [(1000 * (t - t0) / max(t1 - t0, 1e-9), 100 - 100 * (v - low) / (high - low)) for t, v in part]
        if len(spots) == 1:  # a lone point is a dash, else nothing would show
            ((x, y),) = spots
            spots = [(max(x - 3, 0), y), (min(x + 3, 1000), y)]
        return " ".join(f"{x:.1f},{y:.2f}" for x, y in spots)

    return "".join(f'<polyline class="{role}" points="{drawn(part)}"/>' for part in parts)


def clock(seconds: float) -> str:
    """M:SS.s"""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
