"""Compare methods of pretraining on stored log-mels: one encoder, one budget, one table, one picture.

    python examples/compare_pretraining.py --data fma-small-logmel --output runs/comparison

Pretrains the encoder by each method on the training split without its labels, then fits a linear probe on the
frozen embeddings: on all labels, with 95 % intervals from resampled test tracks, and on 1 to 20 % of them,
drawn several times. Beside them stands the encoder with random weights. Writes `results.json`,
`results.md` and `label-efficiency.png`. A run that is interrupted goes on where it stopped when the same
command is given again.

The default budget, of minutes a method on two cores, tells methods that learn quickly from others; it does
not tell which is best in the end. Nor were their settings tuned: they are those of the multi-view study
(arXiv:2404.09177) and, for MoCo, those of MoBY (arXiv:2105.04553).
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

from music_zoo.classifier import Classifier
from music_zoo.datasets import LogMelDataset, dequantize, open_dataset
from music_zoo.evaluation import label_efficiency, plot_label_efficiency, probe
from music_zoo.files import replacing
from music_zoo.pretraining import METHODS
from music_zoo.pretraining.run import new_classifier, pretrain
from music_zoo.pretraining.settings import Settings

#: What differs from the methods' own defaults: the contrastive loss of the study; and for MoCo, whose key
#: network changes fast in a short training, a queue that does not grow old.
OPTIONS = {
    "simclr": {"temperature": 0.1, "projection": [1024, 1024, 2048], "batch_norm": True},
    "moco": {"temperature": 0.1, "queue_length": 1024},
}
#: MoCo learns from one of the two views of a clip, the others from both: it sees each clip twice as often.
EPOCHS = {"moco": 4}
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "roc_auc": "ROC AUC", "pr_auc": "PR AUC"}


def main(arguments: list[str] | None = None) -> None:
    """Pretrain what is not yet pretrained, probe, write table and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of log-mels, see music_zoo.datasets")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--encoder", default="swin-mini")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--segment", type=float, default=11.25, help="seconds of a view")
    parser.add_argument("--draws", type=int, default=4, help="of each share of the labels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    dataset = open_dataset(args.data)
    results = {}
    for name in ("random weights", *args.methods):
        folder = args.output / name.replace(" ", "-")
        stored = folder / "probe.npz"
        if not stored.exists():
            with replacing(stored) as temporary, temporary.open("wb") as file:
                np.savez(file, **embeddings(encoder(name, dataset, folder, args), dataset))
        with np.load(stored) as arrays:
            results[name] = evaluate(name, dict(arrays), args)
    write(results, args.output)


def encoder(name: str, dataset: LogMelDataset, folder: Path, args: argparse.Namespace) -> Classifier:
    """Return the encoder, pretrained or random."""
    if name == "random weights":
        keras.utils.set_random_seed(args.seed)
        return new_classifier(args.encoder, dataset, folder.name)
    print(f"== {name}", flush=True)
    settings = Settings(
        method=name,
        encoder=args.encoder,
        augmentation="multi_view",  # two segments of a track as they are
        epochs=args.epochs * EPOCHS.get(name, 1),
        batch_size=args.batch_size,
        segment=args.segment,
        knn_every=args.epochs,
        seed=args.seed,
        method_options=OPTIONS.get(name, {}),
    )
    return pretrain(settings, dataset, folder, say=lambda line: print(line, flush=True))


def embeddings(classifier: Classifier, dataset: LogMelDataset) -> dict[str, np.ndarray]:
    """Return the embedding of whole recordings and their labels, by split."""
    arrays = {}
    for split in ("train", "validation", "test"):
        features, targets, _ = dataset.split(split)
        embedding = classifier.view("features", "embedding")
        arrays[split] = embedding.predict(dequantize(features), batch_size=64, verbose=0)
        arrays[f"{split} targets"] = targets
    return arrays


def evaluate(name: str, arrays: dict[str, np.ndarray], args: argparse.Namespace) -> dict:
    """Return what the linear probe scores, on all labels and on few."""
    splits = {split: (arrays[split], arrays[f"{split} targets"]) for split in ("train", "validation", "test")}
    result = probe("linear", splits, seed=args.seed)
    print(f"{name}: {result.metrics['accuracy']:.3f}", flush=True)
    few = label_efficiency(splits, draws=args.draws, seed=args.seed)
    return {"metrics": result.metrics, "intervals": result.intervals, "label_efficiency": few}


def write(results: dict[str, dict], folder: Path) -> None:
    """Write table and picture."""
    lines = [
        "| method | " + " | ".join(METRICS.values()) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for name, result in results.items():
        cells = []
        for metric in METRICS:
            low, high = result["intervals"][metric]
            cells.append(f"{result['metrics'][metric]:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    curves = {name: result["label_efficiency"] for name, result in results.items()}
    plain = {name: result | {"label_efficiency": curves[name].to_dict()} for name, result in results.items()}
    with replacing(folder / "results.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    plot_label_efficiency(curves, path=folder / "label-efficiency.png")
    print("\n".join(lines))
    print(f"wrote results.md, results.json and label-efficiency.png to {folder}")


if __name__ == "__main__":
    main()
