"""Pictures in one style, for several parts. Matplotlib is imported when a picture is drawn, not before."""

import warnings
from pathlib import Path

import numpy as np

from music_zoo.errors import MusicZooError
from music_zoo.files import check_replaceable, replacing


def check_picture(path: Path) -> None:
    """Raise if no picture can be written to `path`: before hours of work, not after.

    Raises:
        MusicZooError: Matplotlib is not installed.
        ValueError: Matplotlib knows no format with the path's suffix.
        OSError: The folder cannot be written.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise MusicZooError(
            "Pictures need matplotlib, which is not installed: pip install matplotlib"
        ) from error

    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().lstrip(".") not in formats:
        endings = ", ".join(f".{name}" for name in formats)
        raise ValueError(f"{path}: a picture's name must end in one of {endings}.")
    check_replaceable(path)


def save_figure(figure, path: Path) -> Path:
    """Write a figure in one step and return its path.

    Raises:
        ValueError: Matplotlib knows no format with the path's suffix.
    """
    check_picture(path)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is drawn as a box
        figure.savefig(temporary, format=path.suffix.lower().lstrip("."), dpi=150)
    return path


def plot_taggram(prediction, path: Path, n: int) -> Path:
    """Draw probabilities over time, see `music_zoo.Prediction.plot`."""
    check_picture(path)
    from matplotlib.figure import Figure

    labels = [label for label, _ in prediction.top(n)]
    columns = [prediction.labels.index(label) for label in labels]
    edges, all_values = _timeline(prediction.times, prediction.taggram)
    values = all_values[:, columns]

    figure = Figure(figsize=(9, 1.4 + 0.34 * len(labels)), layout="constrained")
    over_time, overall = figure.subplots(1, 2, sharey=True, width_ratios=(5, 1))
    mesh = over_time.pcolormesh(
        edges, np.arange(len(labels) + 1) - 0.5, values.T, cmap="magma", vmin=0, vmax=1, rasterized=True
    )
    if prediction.min_confidence is not None:
        abstains = all_values.max(axis=1) < prediction.min_confidence
        start, end = edges[np.flatnonzero(np.diff(abstains, prepend=False, append=False)).reshape(-1, 2).T]
        hatched = over_time.broken_barh(
            list(zip(start, end - start, strict=True)),
            (-0.5, len(labels)),
            facecolor=(0.5, 0.5, 0.5, 0.4),
            edgecolor="0.85",
            hatch="///",
            linewidth=0,
        )
        meaning = f"abstains: no label reaches {prediction.min_confidence:.0%}"
        if abstains.any():
            over_time.legend(
                [hatched], [meaning], loc="lower right", bbox_to_anchor=(1.01, 1), frameon=False, borderpad=0
            )
    # Names are no formulas, whatever dollar signs they hold, and may be no text.
    over_time.set_yticks(range(len(labels)), labels, parse_math=False)
    over_time.invert_yaxis()
    over_time.set_xlabel("time (s)")
    name = Path(prediction.source).name.encode(errors="backslashreplace").decode()
    over_time.set_title(name, loc="left", fontsize="medium", parse_math=False)
    overall.barh(range(len(labels)), prediction.probabilities[columns], color="#b5367a")
    if prediction.min_confidence is not None:
        overall.axvline(prediction.min_confidence, color="0.3", linestyle="--", linewidth=1)
    overall.set_xlim(0, 1)
    overall.set_xlabel("mean: abstains" if prediction.abstains else "mean")
    overall.tick_params(left=False)
    for side in ("top", "right"):
        overall.spines[side].set_visible(False)
    figure.colorbar(mesh, ax=(over_time, overall), label="probability", pad=0.01)
    return save_figure(figure, path)


def plot_explanation(explanation, path: Path, columns: dict[str, int]) -> Path:
    """Draw where a classifier listens, see `music_zoo.explain.Explanation.plot`."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    edges = np.append(explanation.times[:, 0], explanation.times[-1, 1])
    n_mels, frames = explanation.features.shape
    figure = Figure(figsize=(9, 6), layout="constrained")
    seen, heat, curves = figure.subplots(3, 1, sharex=True, height_ratios=(4, 1, 4))
    seen.pcolormesh(
        np.linspace(edges[0], edges[-1], frames + 1),
        np.arange(n_mels + 1),
        explanation.features,
        cmap="magma",
        rasterized=True,
    )
    seen.set_ylabel("mel band")
    name = Path(explanation.source).name.encode(errors="backslashreplace").decode()
    seen.set_title(name, loc="left", fontsize="medium", parse_math=False)
    mesh = heat.pcolormesh(edges, (0, 1), explanation.attention[np.newaxis], cmap="magma", vmin=0)
    heat.set_yticks([])
    heat.set_ylabel("attention")
    figure.colorbar(mesh, ax=heat, pad=0.01)
    for i, (label, column) in enumerate(columns.items()):
        color = colormaps["magma"](0.85 * (i + 0.3) / len(columns))
        curves.stairs(explanation.contributions[:, column], edges, baseline=None, color=color)
        # Beside the curves, as a legend would take a name with an underscore in front for none.
        place = (1.01, 1 - (i + 0.5) / len(columns))
        text = curves.annotate(label, place, xycoords="axes fraction", color=color, va="center")
        text.set_parse_math(False)
    curves.set_xlim(edges[0], edges[-1])
    curves.set_ylim(0, 1)
    curves.set_ylabel("probability from\nthat moment alone")
    curves.set_xlabel("time (s)")
    for side in ("top", "right"):
        curves.spines[side].set_visible(False)
    return save_figure(figure, path)


def _timeline(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the windows that cover each stretch of time, so that overlapping windows draw as one picture.

    Args:
        times: Start and end of each window in seconds, `(windows, 2)`.
        values: `(windows, labels)`.

    Returns:
        Edges `(stretches + 1,)` in seconds and means `(stretches, labels)`.
    """
    edges = np.unique(times)
    start, end = np.searchsorted(edges, times).T
    counted = np.column_stack([values.astype(np.float64), np.ones(len(values))])
    steps = np.zeros((len(edges), counted.shape[1]))  # what changes at each edge
    np.add.at(steps, start, counted)
    np.subtract.at(steps, end, counted)
    sums = steps.cumsum(axis=0)[:-1]
    return edges, sums[:, :-1] / sums[:, -1:]
