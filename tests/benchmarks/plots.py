"""Plots of what was measured (matplotlib, from the extra `bench`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["bars", "curves"]


def bars(path: Path, groups: Mapping[str, Mapping[str, float]], title: str, unit: str) -> None:
    """One group of bars per key (a workload), in it one bar per name (a target); `path` ends with .svg or .png."""
    plt = _pyplot()
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure, axes = plt.subplots(figsize=(max(6.0, 1.4 * len(groups)), 4.0))
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        places = [place + index * width for place in range(len(groups))]
        axes.bar(places, [group.get(name, 0.0) for group in groups.values()], width, label=name)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], list(groups), fontsize=8)
    _finish(figure, axes, path, title, unit)


def curves(
    path: Path, lines: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, unit: str
) -> None:
    """One line per name over a logarithmic axis."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6.0, 4.0))
    for name, points in lines.items():
        axes.plot([a for a, _ in points], [b for _, b in points], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylim(bottom=0)
    _finish(figure, axes, path, title, unit)


def _finish(figure: Any, axes: Any, path: Path, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.legend(fontsize=8)
    figure.savefig(path, bbox_inches="tight")
    _pyplot().close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot
