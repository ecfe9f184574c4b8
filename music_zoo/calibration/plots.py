"""Reliability and rejection as pictures, and as tables. Matplotlib is imported when a picture is drawn."""

import csv
from collections.abc import Mapping
from dataclasses import astuple, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from music_zoo.calibration.rejection import RejectThreshold, RiskCoverageCurve
from music_zoo.calibration.reliability import ReliabilityCurve
from music_zoo.calibration.sweep import TemperatureSweep
from music_zoo.files import replacing
from music_zoo.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Of Okabe and Ito (2008), which colour-blind readers tell apart; each with a marker of its own.
_STYLES = [
    {"color": color, "marker": marker}
    for color, marker in zip(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"), "os^DvPX", strict=True
    )
]


def plot_reliability(curves: Mapping[str, ReliabilityCurve], path: str | PathLike) -> "Figure":
    """Draw reliability curves over each other, with the number of probabilities per bucket beneath.

    Args:
        curves: By the name that the legend shows, such as `{"single": ..., "ensemble": ...}`.
        path: Where to write the picture; its suffix says the format (`.png`, `.svg`, `.pdf`, ...).

    Returns:
        The figure, as written.

    Raises:
        ValueError: No curves, or a suffix of no known format.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    _check_some(curves)
    figure = Figure(figsize=(5, 6.2), layout="constrained")
    reliability, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    reliability.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for i, (name, curve) in enumerate(curves.items()):
        style = _STYLES[i % len(_STYLES)]
        filled = curve.counts > 0
        label = f"{name} (MAE {curve.mae:.3f})"
        reliability.plot(curve.targets[filled], curve.accuracy[filled], **style, label=label)
        edges = np.linspace(0, 1, curve.counts.size + 1)
        histogram.stairs(curve.counts, edges, color=style["color"])
    reliability.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is true")
    reliability.set_aspect("equal")
    _legend(reliability, "upper left")
    histogram.set_yscale("symlog", linthresh=1)  # the lowest bucket holds most of the probabilities
    histogram.set(xlabel="probability", ylabel="number", ylim=(0, None))
    save_figure(figure, Path(path))
    return figure


def plot_mae_over_temperature(curves: Mapping[str, TemperatureSweep], path: str | PathLike) -> "Figure":
    """Draw the reliability error over the temperature, with a mark at each fitted temperature.

    Args:
        curves: By the name that the legend shows, see `music_zoo.calibration.mae_over_temperature`.
        path: Where to write the picture; its suffix says the format (`.png`, `.svg`, `.pdf`, ...).

    Returns:
        The figure, as written.

    Raises:
        ValueError: No curves, or a suffix of no known format.
    """
    from matplotlib.figure import Figure

    _check_some(curves)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linestyle="--", linewidth=1)
    for i, (name, curve) in enumerate(curves.items()):
        style = _STYLES[i % len(_STYLES)]
        marked = np.flatnonzero(curve.is_fitted)
        fitted = "".join(f" (fitted: {curve.temperatures[at]:.2f})" for at in marked)
        axes.plot(
            curve.temperatures,
            curve.mae,
            **style,
            markevery=marked.tolist(),
            markersize=9,
            label=name + fitted,
        )
    axes.set(xlabel="temperature", ylabel="reliability error (MAE)", ylim=(0, None))
    return _finished(figure, axes, path)


def plot_risk_coverage(
    curves: Mapping[str, RiskCoverageCurve], path: str | PathLike, threshold: RejectThreshold | None = None
) -> "Figure":
    """Draw the share of errors among accepted files over the share of files that is accepted.

    Args:
        curves: By the name that the legend shows, see `music_zoo.calibration.risk_coverage_curve`.
        path: Where to write the picture; its suffix says the format (`.png`, `.svg`, `.pdf`, ...).
        threshold: Mark its target, and what it accepts.

    Returns:
        The figure, as written.

    Raises:
        ValueError: No curves, or a suffix of no known format.
    """
    from matplotlib.figure import Figure

    _check_some(curves)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        color = _STYLES[i % len(_STYLES)]["color"]
        axes.plot(curve.coverage, curve.risk, color=color, label=f"{name} (area {curve.area:.3f})")
    if threshold is not None:
        axes.axhline(threshold.max_error, color="0.6", linestyle="--", linewidth=1)
        label = f"confidence at least {threshold.min_confidence:g}"
        axes.plot(threshold.coverage, threshold.error, "o", color="black", label=label)
    axes.set(xlabel="share accepted", ylabel="share of errors among accepted", xlim=(0, 1), ylim=(0, None))
    return _finished(figure, axes, path)


def write_curves(
    curves: Mapping[str, ReliabilityCurve | RiskCoverageCurve | TemperatureSweep], path: str | PathLike
) -> Path:
    """Write the numbers of curves of one kind as a CSV table: a row per point, the name of its curve first.

    The other columns are the curve's attributes; what is not a number, such as the accuracy in an empty
    bucket, is an empty cell.

    Raises:
        ValueError: No curves.
        OSError: The file cannot be written.
    """
    _check_some(curves)
    columns = [field.name for field in fields(next(iter(curves.values())))]
    with replacing(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["curve", *columns])
        for name, curve in curves.items():
            for values in zip(*(column.tolist() for column in astuple(curve)), strict=True):
                writer.writerow([name, *("" if value != value else value for value in values)])
    return Path(path)


def _check_some(curves: Mapping) -> None:
    if not curves:
        raise ValueError("There must be at least one curve, got none.")


def _finished(figure: "Figure", axes, path: str | PathLike) -> "Figure":
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _legend(axes, "best")
    save_figure(figure, Path(path))
    return figure


def _legend(axes, place: str) -> None:
    for text in axes.legend(loc=place, frameon=False).get_texts():
        text.set_parse_math(False)  # names are no formulas
