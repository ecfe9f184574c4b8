"""A preset's page on the Hub: text and metadata, made from what the manifest says of it.

The metadata follow https://github.com/huggingface/hub-docs/blob/main/modelcard.md; evaluation results are in
both of its forms: in the page itself (`model-index`), and as a file of their own (`.eval_results`), see
https://huggingface.co/docs/hub/eval-results.
"""

from typing import Any

from music_zoo.hub.manifest import PresetEntry, Result
from music_zoo.hub.schema import OriginalSource

TASK = "audio-classification"
EVAL_RESULTS_FILE = ".eval_results/music_zoo.yaml"

#: Metrics of how honest the probabilities are, in words; the others are of how good the labels are.
_CALIBRATION = {
    "ece": "expected calibration error",
    "mae": "mean absolute calibration error",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
}
_NAMES = _CALIBRATION | {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC-AUC, mean over labels",
    "average_precision": "PR-AUC (average precision), mean over labels",
}
#: As the Hub writes the licences that presets have; any other is "other", by name.
_LICENSES = (
    "apache-2.0",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "isc",
    "mit",
)
#: Data sets that have a page on the Hub, which results in the newer form must name.
_HUB_DATASETS = {"fma-small": "benjamin-paine/free-music-archive-small", "gtzan": "marsyas/gtzan"}


def model_card(name: str, entry: PresetEntry, repo: str, picture: str = "") -> str:
    """Write a preset's README.md for the Hub: metadata, then Markdown.

    Args:
        name: Of the preset.
        entry: What the manifest says of it.
        repo: `organisation/repository`, for the lines of use.
        picture: File name of a reliability diagram in the repository, if there is one.
    """
    from huggingface_hub import ModelCard

    sections = {
        "Use": f'```python\nimport music_zoo\n\nclassifier = music_zoo.load("hf://{repo}")\n'
        'print(classifier.classify("song.mp3"))\n```\n\n'
        "`pip install music-zoo`, with TensorFlow, JAX or PyTorch. Any file that libsndfile reads, of any "
        "length, will do; "
        f"the model hears windows of {entry.window_seconds:g} s at {entry.sample_rate} Hz.",
        "Labels": f"{entry.task.replace('_', '-')}, {len(entry.labels)}: {', '.join(entry.labels)}.",
        "Intended use": "To describe recordings of music, such as for search, sorting and statistics; with "
        "probabilities that are meant to be taken at their word where the calibration below says so. Not to "
        "judge people, and not for decisions without a person.",
        "Limits": entry.limits,
        "Training data": entry.training_data
        + _command("Trained with", entry.training_command)
        + (f"\n\nThis took {entry.training_cost}." if entry.training_cost else ""),
        "Results": "\n\n".join(_table(result, calibration=False) for result in entry.results),
        "Calibration": "\n\n".join(
            [_table(result, calibration=True) for result in entry.results if _has_calibration(result)]
            + ([f"![Reliability diagram]({picture})"] if picture else [])
        )
        or "The probabilities are not calibrated.",
        "Original": "\n".join(
            f"- {original.url}"
            for source in entry.sources
            if isinstance(source, OriginalSource)
            for original in source.originals
        ),
        "Licence": f"{entry.license}. The training data have licences of their own, see above.",
        "Citation": entry.citation,
    }
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in sections.items() if body)
    heading = f"# {name}\n\n{entry.description}\n\n{entry.architecture}, {entry.parameters:,} parameters"
    card = ModelCard(f"---\n{_metadata(name, entry).to_yaml()}\n---\n\n{heading}.\n\n{text}\n")
    return str(card)


def eval_results(entry: PresetEntry) -> list[dict[str, Any]]:
    """Return what the preset scores on the test splits of data sets that the Hub has, in the newer form."""
    return [
        {
            "dataset": {"id": _HUB_DATASETS[result.dataset], "task_id": metric},
            "value": value,
            "notes": f"{result.split} split; {result.command or result.source}",
        }
        for result in _of_tests(entry)
        if result.dataset in _HUB_DATASETS
        for metric, value in result.metrics.items()
    ]


def _metadata(name: str, entry: PresetEntry):
    from huggingface_hub import EvalResult, ModelCardData

    license = entry.license.lower()
    is_known = license in _LICENSES
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=result.dataset,
            dataset_name=result.dataset,
            dataset_split=result.split,
            metric_type=metric,
            metric_name=_NAMES.get(metric, metric),
            metric_value=value,
        )
        for result in _of_tests(entry)
        for metric, value in result.metrics.items()
    ]
    return ModelCardData(
        library_name="music_zoo",
        pipeline_tag=TASK,
        license=license if is_known else "other",
        license_name=None if is_known else "-".join(license.split()),
        tags=["music", "audio", "keras", "calibration", entry.architecture, entry.task.replace("_", "-")],
        model_name=name,
        eval_results=results or None,
    )


def _of_tests(entry: PresetEntry) -> list[Result]:
    return [result for result in entry.results if "test" in result.split]


def _has_calibration(result: Result) -> bool:
    return any(metric in _CALIBRATION for metric in result.metrics)


def _table(result: Result, calibration: bool) -> str:
    examples = "" if result.examples is None else f", {result.examples} examples"
    has_before = calibration and bool(result.uncalibrated)
    head = ["metric", "value"] + (["before calibration"] if has_before else [])
    rows = [head, ["---"] * len(head)]
    for metric, value in result.metrics.items():
        if (metric in _CALIBRATION) == calibration:
            before = [f"{result.uncalibrated.get(metric, value):.4f}"] if has_before else []
            rows.append([_NAMES.get(metric, metric), f"{value:.4f}", *before])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    said = f"\n\n{result.note}" if result.note else ""
    source = (
        f"\n\nPublished: {result.source}." if result.source else _command("Measured with", result.command)
    )
    return f"{result.dataset}, {result.split} split{examples}\n\n{table}" + (
        "" if calibration else said + source
    )


def _command(what: str, command: str) -> str:
    return f"\n\n{what}\n\n```sh\n{command}\n```" if command else ""
