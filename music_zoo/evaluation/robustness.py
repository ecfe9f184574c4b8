"""A classifier on audio that was stretched, shifted, compressed or buried in noise: what it still knows."""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from music_zoo.audio import load
from music_zoo.calibration import expected_calibration_error
from music_zoo.datasets import AudioDataset, AudioFolder, LogMelDataset
from music_zoo.errors import AudioError, DatasetError, MusicZooError
from music_zoo.evaluation.metrics import classification_metrics
from music_zoo.evaluation.perturbations import PERTURBATIONS, Perturbation
from music_zoo.evaluation.probes import probe_metrics
from music_zoo.evaluation.split_outputs import paths_of, targets_of
from music_zoo.files import replacing
from music_zoo.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Robustness:
    """What a classifier scores on perturbed audio, see `evaluate_robustness`.

    Attributes:
        model: Its name.
        dataset: The folder.
        split: Name of the split, or `""`.
        examples: Number of recordings, the same in every row.
        metrics: By perturbation, `"none"` first, the metrics by name: `accuracy` (single-label), `macro_f1`,
            `roc_auc` and `pr_auc` as in `music_zoo.evaluation.probe_metrics`; `nll` and `ece` as in
            `music_zoo.evaluation.classification_metrics`; `uncalibrated_ece`, without the calibrator.
        skipped: Messages on files that could not be used.
    """

    model: str
    dataset: str
    split: str
    examples: int
    metrics: dict[str, dict[str, float]]
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return plain Python values, ready for JSON."""
        return asdict(self)

    def write_csv(self, path: str | PathLike) -> None:
        """Write a table: a row per perturbation, a column per metric."""
        with replacing(Path(path)) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["perturbation", *self.metrics["none"]], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"perturbation": name} | row for name, row in self.metrics.items())

    def to_text(self) -> str:
        """Return a table to read: a row per perturbation, a column per metric."""
        lines = [f"{self.model} on {self.dataset} {self.split}, {self.examples} recordings"]
        lines.append(f"  {'':18}" + "".join(f"{name:>{_width(name)}}" for name in self.metrics["none"]))
        for perturbation, row in self.metrics.items():
            numbers = "".join(f"{value:{_width(name)}.4f}" for name, value in row.items())
            lines.append(f"  {perturbation:18}{numbers}")
        return "\n".join(lines)

    def plot(self, path: str | PathLike | None = None) -> "Figure":
        """Draw what is right beside how far off the probabilities are, a line per perturbation.

        Args:
            path: Where to write the picture, if it is to be written; its suffix says the format.

        Raises:
            ValueError: A suffix of no known format.
        """
        from matplotlib.figure import Figure  # not pyplot: no window, no global state

        names, rows = list(self.metrics), list(self.metrics.values())
        scores = [name for name in ("accuracy", "roc_auc", "pr_auc") if name in rows[0]]
        figure = Figure(figsize=(9, 1.6 + 0.3 * len(rows)), layout="constrained")
        right, calibration = figure.subplots(1, 2, sharey=True)
        panels = ((right, scores, "score"), (calibration, ["ece", "uncalibrated_ece"], "calibration error"))
        for axes, metrics, label in panels:
            for color, metric in zip(("C0", "C1", "C2"), metrics, strict=False):
                values = [row[metric] for row in rows]
                axes.axvline(values[0], color=color, linestyle=":", linewidth=1)
                axes.plot(values, range(len(rows)), "o", color=color, label=metric.replace("_", " "))
            axes.set_xlabel(label)
            axes.grid(axis="y", color="0.9")
            axes.set_axisbelow(True)
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        right.set_yticks(range(len(rows)), [name.replace("_", " ") for name in names], parse_math=False)
        right.invert_yaxis()
        right.set_xlim(0, 1)
        calibration.set_xlim(left=0)
        if path is not None:
            save_figure(figure, Path(path))
        return figure


def evaluate_robustness(
    model,
    dataset: AudioDataset | AudioFolder,
    split: str | None = None,
    perturbations: Mapping[str, Perturbation] = PERTURBATIONS,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Score a classifier on the audio of a split as it is and under each perturbation.

    Each file is decoded once, at the model's sample rate, and perturbed there; memory holds a few versions of
    it. A file that cannot be used in every version is left out of all, so that rows can be compared.

    Args:
        model: With the data set's labels, in any order; multi-label, with some of them.
        dataset: Audio files with labels.
        split: `"test"` if None; an `AudioFolder` is a split already.
        perturbations: By name.
        limit: Take no more files than this, drawn at random by `seed`.
        seed: Of the draw of files and of noise. The noise of a file is the same for each perturbation.
        progress: Called with the numbers of versions of files that are done and to do.

    Raises:
        DatasetError: Labels that are not the model's, no audio, no file that can be used, or files of one
            class only.
        MusicZooError: A package that a perturbation needs is missing.
        ValueError: A limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    if isinstance(dataset, LogMelDataset):
        raise DatasetError(f"{dataset.name} holds features; only audio files can be perturbed.")
    split = dataset.split if isinstance(dataset, AudioFolder) else split or "test"
    targets = targets_of(model, dataset, split)
    paths = paths_of(dataset, split)
    rows = np.sort(np.random.default_rng(seed).permutation(len(paths))[:limit])
    versions: dict[str, Perturbation] = {"none": lambda audio, rate, rng: audio, **perturbations}
    given: list[tuple[int, str, int]] = []  # of each array that the model was given: row, version, place
    skipped: dict[int, str] = {}

    def audios() -> Iterator[tuple[np.ndarray, int]]:
        for i, row in enumerate(rows):
            try:
                audio, rate = load(paths[row], model.sample_rate)
            except AudioError as error:
                skipped[row] = str(error)
                continue
            for j, (name, perturb) in enumerate(versions.items(), start=1):
                given.append((row, name, i * len(versions) + j))
                yield perturb(audio, rate, np.random.default_rng([seed, row])), rate

    calibrated: dict[tuple[int, str], np.ndarray] = {}
    uncalibrated: dict[tuple[int, str], np.ndarray] = {}
    for i, result in enumerate(model.infer(audios(), "logits")):
        row, name, place = given[i]
        if isinstance(result, MusicZooError):
            skipped.setdefault(row, f"{paths[row]}, perturbation {name}: {result}")
        else:
            calibrated[row, name] = model.probabilities_of(result.outputs).mean(axis=0)
            uncalibrated[row, name] = model.probabilities_of(result.outputs, calibrated=False).mean(axis=0)
        if progress:
            progress(place, len(rows) * len(versions))
    messages = tuple(skipped[row] for row in sorted(skipped))
    used = [row for row in rows if row not in skipped]
    if not used:
        raise DatasetError(
            f"{dataset.root}: none of the {len(rows)} files could be used. First: {messages[0]}"
        )
    try:
        metrics = {
            name: _metrics(
                np.stack([calibrated[row, name] for row in used]),
                np.stack([uncalibrated[row, name] for row in used]),
                targets[used],
                model.task,
            )
            for name in versions
        }
    except ValueError as error:  # such as files of one class only
        raise DatasetError(f"{dataset.root}: {error}") from error
    return Robustness(model.name, str(dataset.root), split or "", len(used), metrics, messages)


def _metrics(calibrated: np.ndarray, uncalibrated: np.ndarray, targets: np.ndarray, task: str) -> dict:
    usual = classification_metrics(calibrated, targets, task)
    return {
        **probe_metrics(calibrated, targets, task),
        "nll": usual["nll"],
        "ece": usual["ece"],
        "uncalibrated_ece": expected_calibration_error(uncalibrated, targets, task),
    }


def _width(name: str) -> int:
    return max(len(name), 8) + 2
