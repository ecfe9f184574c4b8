"""Pictures in one style, for several parts. Matplotlib is imported when a picture is drawn, not before."""

import warnings
from pathlib import Path

import numpy as np

from music_zoo.files import check_replaceable, replacing


def check_picture(path: Path) -> None:
    """Raise if no picture can be written to `path`: before hours of work, not after.

    Raises:
        ValueError: Matplotlib knows no format with the path's suffix.
        OSError: The folder cannot be written.
    """
    from matplotlib.backend_bases import FigureCanvasBase

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
    from matplotlib.figure import Figure

    labels = [label for label, _ in prediction.top(n)]
    columns = [prediction.labels.index(label) for label in labels]
    edges, values = _timeline(prediction.times, prediction.taggram[:, columns])

    figure = Figure(figsize=(9, 1.4 + 0.34 * len(labels)), layout="constrained")
    over_time, overall = figure.subplots(1, 2, sharey=True, width_ratios=(5, 1))
    mesh = over_time.pcolormesh(
        edges, np.arange(len(labels) + 1) - 0.5, values.T, cmap="magma", vmin=0, vmax=1, rasterized=True
    )
    # Names are no formulas, whatever dollar signs they hold, and may be no text.
    over_time.set_yticks(range(len(labels)), labels, parse_math=False)
    over_time.invert_yaxis()
    over_time.set_xlabel("time (s)")
    name = Path(prediction.source).name.encode(errors="backslashreplace").decode()
    over_time.set_title(name, loc="left", fontsize="medium", parse_math=False)
    overall.barh(range(len(labels)), prediction.probabilities[columns], color="#b5367a")
    overall.set_xlim(0, 1)
    overall.set_xlabel("mean")
    overall.tick_params(left=False)
    for side in ("top", "right"):
        overall.spines[side].set_visible(False)
    figure.colorbar(mesh, ax=(over_time, overall), label="probability", pad=0.01)
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
