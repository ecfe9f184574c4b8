"""The commands of calibration: `music-zoo calibrate` and `reject`."""

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from music_zoo.backend import import_keras
from music_zoo.errors import DatasetError

#: Kinds of calibrators, as in `music_zoo.calibration.CALIBRATORS`, which would import Keras.
METHODS = ("temperature", "vector", "isotonic")

Model = Annotated[str, typer.Argument(help="Preset, preset folder or hf:// reference.", show_default=False)]
Data = Annotated[Path, typer.Option(help="Labelled data that the model has not seen; as in `evaluate`.")]
Split = Annotated[
    str | None,
    typer.Option(help="train, validation or test [default: validation]; of plain folders, a sub-folder."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (calibrate, reject):
        app.command()(command)


def calibrate(
    model: Model,
    data: Data,
    output: Annotated[Path, typer.Option(help="Folder of the calibrated preset.")],
    split: Split = None,
    method: Annotated[str, typer.Option(help="temperature, vector or isotonic.")] = "temperature",
) -> None:
    """Fit a model's calibrator to held-out data, and write the model with it as a preset.

    Printed are negative log-likelihood and calibration errors of that split, by five-fold cross-validation:
    each recording is scored by a calibrator that was fitted to others.
    """
    if method not in METHODS:
        raise typer.BadParameter(f"--method: expected {', '.join(METHODS)}, got {method!r}.")
    from music_zoo.datasets import open_dataset

    dataset = open_dataset(data, split)
    import_keras()
    from music_zoo import zoo
    from music_zoo.evaluation import classification_metrics
    from music_zoo.evaluation.cross_calibration import calibrated_means, cross_calibrated
    from music_zoo.evaluation.split_outputs import split_outputs
    from music_zoo.progress import counting

    loaded = zoo.load(model)
    with counting("files") as progress:
        found = split_outputs(loaded, dataset, split or "validation", "logits", progress)
    columns = {
        "uncalibrated": calibrated_means(loaded, found, False),
        "before": calibrated_means(loaded, found),
    }
    how = "after: five-fold cross-validation"
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            loaded.calibrate_logits(found.windows, found.targets, method)
    except ValueError as error:
        raise DatasetError(f"{found.dataset}: {error}") from error
    try:
        columns["after"] = cross_calibrated(loaded, found)
    except ValueError as error:
        columns["after"] = calibrated_means(loaded, found)
        how = f"after: on the recordings that it was fitted to, which flatters; no cross-validation: {error}"
    loaded.save_preset(output)
    print(f"{loaded.name} on {found.dataset}, {len(found.targets)} recordings, {method}")
    print(f"  {'':6}" + "".join(f"{column:>14}" for column in columns))
    scores = [classification_metrics(each, found.targets, loaded.task) for each in columns.values()]
    for name in ("nll", "ece", "mae"):
        print(f"  {name:6}" + "".join(f"{score[name]:14.4f}" for score in scores))
    print(how)
    for note in notes:
        print(f"note: {note.message}", file=sys.stderr)
    for error in found.skipped:
        print(f"skipped: {error}", file=sys.stderr)
    print(f"wrote {output}", file=sys.stderr)
    raise typer.Exit(1 if found.skipped else 0)


def reject(
    model: Model,
    data: Data,
    split: Split = None,
    max_error: Annotated[float, typer.Option(help="Most errors among accepted files, from 0 to 1.")] = 0.3,
    coverage: Annotated[float, typer.Option(help="How often label sets hold the label, from 0 to 1.")] = 0.9,
    delta: Annotated[float, typer.Option(help="Probability that the threshold does not keep to it.")] = 0.05,
    method: Annotated[str, typer.Option(help="Of label sets: lac (small) or aps (never empty).")] = "lac",
    plot: Annotated[
        Path | None, typer.Option(help="Draw errors over the share accepted; the numbers beside it, as .csv.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Find how sure a model must be, for `tag --min-confidence`, and label sets that hold the truth.

    Exit status 1 if no threshold can be guaranteed to meet the target.
    """
    for option, value in {"--max-error": max_error, "--coverage": coverage, "--delta": delta}.items():
        if not 0 < value < 1:
            raise typer.BadParameter(f"{option} must lie between 0 and 1, got {value:g}.")
    if method not in ("lac", "aps"):
        raise typer.BadParameter(f"--method: expected lac or aps, got {method!r}.")
    if plot is not None:
        from music_zoo.plots import check_picture

        try:
            check_picture(plot)
        except ValueError as error:
            raise typer.BadParameter(f"--plot: {error}") from error
    from music_zoo.datasets import AudioFolder, open_dataset

    dataset = open_dataset(data, split)
    import_keras()
    from music_zoo import calibration, zoo
    from music_zoo.evaluation.split_outputs import split_outputs
    from music_zoo.progress import counting

    loaded = zoo.load(model)
    task = loaded.task
    if method == "aps" and task == "multi_label":
        raise typer.BadParameter(f"--method: aps is for one label a file, {model} gives several; use lac.")
    with counting("files") as progress:
        found = split_outputs(loaded, dataset, split or "validation", progress=progress)
    probabilities, targets = found.means, found.targets
    curve = calibration.risk_coverage_curve(probabilities, targets, task)
    try:
        threshold, refusal = calibration.reject_threshold(probabilities, targets, max_error, delta, task), ""
    except ValueError as error:
        threshold, refusal = None, str(error)
    set_threshold = calibration.conformal_threshold(probabilities, targets, coverage, method, task)
    sizes = calibration.label_sets(probabilities, set_threshold, method).sum(axis=1)
    summary = {
        "model": loaded.name,
        "dataset": found.dataset,
        "split": split or ("" if isinstance(dataset, AudioFolder) else "validation"),
        "examples": len(targets),
        "error": float(curve.risk[-1]),
        "risk_coverage_area": curve.area,
        "best_risk_coverage_area": curve.best_area,
        "reject": threshold and asdict(threshold),
        "label_sets": {
            "method": method,
            "coverage": coverage,
            "threshold": set_threshold,
            "mean_size": float(sizes.mean()),
            "empty": float((sizes == 0).mean()),
        },
    }
    print(json.dumps(summary, indent=2) if as_json else _text(summary, task, max_error, delta, refusal))
    if plot is not None:
        calibration.plot_risk_coverage({loaded.name: curve}, plot, threshold)
        calibration.write_curves({loaded.name: curve}, plot.with_suffix(".csv"))
        print(f"wrote {plot} and {plot.with_suffix('.csv')}", file=sys.stderr)
    for error in found.skipped:
        print(f"skipped: {error}", file=sys.stderr)
    raise typer.Exit(1 if found.skipped or threshold is None else 0)


def _text(summary: dict, task: str, max_error: float, delta: float, refusal: str) -> str:
    """Return what was found, and what is guaranteed, for a person to read."""
    wrong = "is not its label" if task == "single_label" else "is none of its labels"
    sets = summary["label_sets"]
    held = (
        f"the set of a recording holds its label with a probability of at least {sets['coverage']:.0%}"
        if task == "single_label"
        else f"on average, at least {sets['coverage']:.0%} of the labels of a recording are in its set"
    )
    where = f"{summary['dataset']} {summary['split']}".rstrip()
    lines = [
        f"{summary['model']} on {where}, {summary['examples']} recordings",
        f"  {summary['error']:.1%} are errors: the most probable label {wrong}",
        f"  area under the risk-coverage curve: {summary['risk_coverage_area']:.4f} (at best "
        f"{summary['best_risk_coverage_area']:.4f} with as many errors)",
        "",
    ]
    if found := summary["reject"]:
        lines += [
            f"--min-confidence {found['min_confidence']:g}",
            f"  accepts {found['coverage']:.1%} of these recordings, {found['error']:.1%} of them are errors",
            f"  guaranteed: at most {max_error:.1%} of accepted recordings are errors, but for a probability "
            f"of {delta:g} that these recordings mislead",
        ]
    else:
        lines += [refusal]
    lines += [
        "",
        f"label sets ({sets['method']}, threshold {sets['threshold']:.4f})",
        f"  {sets['mean_size']:.2f} labels on average, {sets['empty']:.1%} of the sets are empty",
        f"  guaranteed: {held}",
        "",
        "Guarantees are for recordings of the same kind as these, if neither training nor calibration nor "
        "the choice of the model has seen these.",
    ]
    return "\n".join(lines)
