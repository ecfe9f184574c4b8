"""Write RESULTS.md from the manifest: what each bundled preset scores, costs and is good for, in one table.

    python examples/write_results.py                                     # the page, from the manifest alone
    python examples/write_results.py --speed                             # time the presets first
    python examples/write_results.py --map resnet-fma fma-small-logmel   # draw docs/embedding-map.png anew
    python examples/write_results.py --curves runs/s3t-swin-fma          # draw docs/validation-curves.png

Figures are not typed: each comes from the manifest's entry, which names the command that measured it.
`--speed` measures on this machine, which should be idle, and writes what it finds into the manifest. `--map`
draws the embeddings of a test split by t-SNE (van der Maaten and Hinton 2008), as scikit-learn does.
`--curves` draws what runs of `music-zoo train` scored on the validation split, epoch by epoch.
"""

import argparse
import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

from music_zoo import load
from music_zoo.files import replacing
from music_zoo.hub.manifest import PresetEntry, Result, manifest_path, read_manifest, update_manifest
from music_zoo.hub.schema import BundledSource

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "average_precision": "PR AUC",
    "nll": "NLL",
    "ece": "ECE",
    "mae": "MAE",
}
PICTURES = {
    "reliability.png": "Reliability of resnet-fma on the test split, before and after calibration",
    "label-efficiency.png": "Accuracy of linear probes on 1 to 100 % of the labels, by method of pretraining",
    "validation-curves.png": "Accuracy on the validation split of FMA-small while networks were trained",
    "embedding-map.png": "Test tracks of FMA-small by their embeddings (t-SNE), coloured by genre",
}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speed", action="store_true", help="time the presets, into the manifest")
    parser.add_argument("--map", nargs=2, metavar=("PRESET", "DATA"), help="draw the embeddings of a split")
    parser.add_argument(
        "--curves", nargs="+", type=Path, metavar="RUN", help="draw validation scores of runs"
    )
    parser.add_argument("--output", type=Path, help="default: RESULTS.md beside the manifest")
    args = parser.parse_args(arguments)

    output = args.output or manifest_path().parent / "RESULTS.md"
    if args.speed:
        for name, entry in bundled().items():
            update_manifest(name, entry.model_copy(update={"speed": speed(name)}))
            print(f"{name}: {read_manifest()[name].speed}")
    if args.map:
        print(f"wrote {draw_map(*args.map, output.parent / 'docs' / 'embedding-map.png')}")
    if args.curves:
        print(f"wrote {draw_curves(args.curves, output.parent / 'docs' / 'validation-curves.png')}")
    with replacing(output) as temporary:
        temporary.write_text(page(bundled(), output.parent / "docs"), encoding="utf-8")
    print(f"wrote {output}")


def bundled() -> dict[str, PresetEntry]:
    """Return the entries of the presets that are part of the package."""
    return {
        name: entry
        for name, entry in read_manifest().items()
        if any(isinstance(source, BundledSource) for source in entry.sources)
    }


def page(entries: dict[str, PresetEntry], pictures: Path) -> str:
    """Return the page as Markdown."""
    blocks = [
        "# Results",
        "Written by `python examples/write_results.py` from `weights_manifest.json`; do not edit. Splits are "
        "the data sets' official ones, figures calibrated, in brackets 95 % intervals from 1,000 resampled "
        "recordings, or from all recordings of resampled instruments where a table says so. Calibration "
        "errors of resampled recordings, and the average precision of rare tags, are larger than those of "
        "all, so their intervals lie high.",
        "## At a glance",
        table(
            ("preset", "architecture", "parameters", "size", "test split", "score", "speed on a CPU"),
            [row(name, entry) for name, entry in entries.items()],
        ),
    ]
    blocks += [
        f"![{caption}](docs/{file})" for file, caption in PICTURES.items() if (pictures / file).exists()
    ]
    for name, entry in entries.items():
        blocks += section(name, entry)
    return "\n\n".join(blocks) + "\n"


def row(name: str, entry: PresetEntry) -> tuple[str, ...]:
    """Return a preset's line of the first table."""
    tests = [result for result in entry.results if result.split == "test"]
    size = sum(file.size for file in entry.files.values()) / 1e6
    return (
        f"[{name}](#{name})",
        entry.architecture,
        f"{entry.parameters / 1e6:.2f} M",
        f"{size:.1f} MB",
        "; ".join(f"{result.dataset} ({result.examples})" for result in tests),
        "; ".join(result.headline.partition(": ")[2] for result in tests),
        entry.speed,
    )


def section(name: str, entry: PresetEntry) -> list[str]:
    """Return what is said of one preset."""
    blocks = [f"## {name}", entry.description]
    for result in entry.results:
        blocks.append(metrics(result))
        blocks.append("\n".join(filter(None, [result.note, f"`{result.command}`"])))
    facts = {
        "Published": entry.published,
        "Trained": " ".join(filter(None, [entry.training_cost, f"`{entry.training_command}`"])),
        "Limits": entry.limits,
    }
    blocks.append("\n".join(f"- **{fact}**: {text}" for fact, text in facts.items() if text))
    return blocks


def metrics(result: Result) -> str:
    """Return a table of one result's metrics."""
    known = {name: head for name, head in METRICS.items() if name in result.metrics}
    rows = [tuple(cell(result, name) for name in known)]
    if result.uncalibrated:
        rows.append(tuple(f"{result.uncalibrated[name]:.3f}" for name in known))
    names = ("calibrated", "uncalibrated")
    over = [f"intervals over {result.resampled}"] if result.resampled else []
    return table(
        (
            ", ".join([f"{result.dataset} {result.split}", f"{result.examples} recordings", *over]),
            *known.values(),
        ),
        [(head, *cells) for head, cells in zip(names, rows, strict=False)],
    )


def cell(result: Result, name: str) -> str:
    """Return a metric with its interval."""
    between = " ({:.3f} to {:.3f})".format(*result.intervals[name]) if name in result.intervals else ""
    return f"{result.metrics[name]:.3f}{between}"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def speed(name: str, repeats: int = 5) -> str:
    """Time windows of noise through a preset, after a first call that compiles."""
    model = load(name)
    count = max(1, round(30 / model.window))
    windows = np.random.default_rng(0).uniform(-0.5, 0.5, (count, model.window_samples)).astype(np.float32)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model.predict_on_batch(windows)
        seconds.append(time.perf_counter() - start)
    rate = count * model.window / np.median(seconds[1:])
    return f"{rate:.0f} x real time ({os.cpu_count()} threads, {keras.backend.backend()})"


def draw_map(name: str, data: str, path: Path) -> Path:
    """Draw the embeddings of a test split in two dimensions, coloured by label."""
    import matplotlib.pyplot as plt
    from sklearn.manifold import TSNE

    from music_zoo.datasets import open_dataset
    from music_zoo.evaluation.split_outputs import split_outputs
    from music_zoo.plots import save_figure

    model = load(name)
    found = split_outputs(model, open_dataset(Path(data)), "test", "embedding")
    places = TSNE(random_state=0).fit_transform(found.means)
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    for number, label in enumerate(model.labels):
        axes.scatter(*places[found.targets == number].T, s=10, label=label)
    axes.set(xticks=[], yticks=[], title=f"{name}: embeddings of the test split of {found.dataset} (t-SNE)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return save_figure(figure, path)


def draw_curves(runs: Sequence[Path], path: Path) -> Path:
    """Draw the accuracies in the logs of runs: of nearest neighbours in pretraining, then of the network."""
    import matplotlib.pyplot as plt

    from music_zoo.plots import save_figure

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for axes, metric, title in zip(
        panels,
        ("knn_accuracy", "val_accuracy"),
        ("pretraining: nearest neighbours", "training: the network"),
        strict=True,
    ):
        for number, run in enumerate(runs):
            for log in sorted(run.glob("*/log.csv")):
                with log.open(newline="") as file:
                    rows = [row for row in csv.DictReader(file) if row.get(metric, "nan") != "nan"]
                if rows:
                    epochs, scores = zip(
                        *((int(row["epoch"]), float(row[metric])) for row in rows), strict=True
                    )
                    axes.plot(epochs, scores, marker="o", color=f"C{number}", label=run.name)
        axes.set(title=title, xlabel="epoch")
        if axes.lines:
            axes.legend(frameon=False)
    panels[0].set_ylabel("accuracy on the validation split")
    return save_figure(figure, path)


if __name__ == "__main__":
    main()
