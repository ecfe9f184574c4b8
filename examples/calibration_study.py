"""The study of Lukashevich et al. (2023, doi:10.1145/3616195.3616228) again: its tables beside ours.

    python examples/calibration_study.py --fma fma-small-logmel runs/resnet-fma
        --nsynth nsynth-test runs/resnet-nsynth --output runs/calibration-study --split test

Are a network's probabilities to be trusted, are those of an ensemble of five, and what does a temperature do?
The study asks this of genres (FMA-small) and of families of instruments (NSynth), of ResNets on log-mels and
of small networks (MLPs) on embeddings: OpenL3's there, here VGGish's of the tracks and, for the notes, those
of our preset `resnet-fma`.

The ResNets are looked for in `runs/resnet-fma/member-0/preset` and so on, and trained there by the recipes
`resnet-fma-ensemble` and `resnet-nsynth-ensemble` as far as they are missing; the MLPs are trained at once.
Temperatures are fitted on the validation split; what is scored is another split, `test`, or for rehearsals
`validation` itself, which flatters the MLPs and the temperatures. Writes `results.md`, `results.json`, and
each picture with its numbers in a CSV table.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from scipy.special import softmax

from music_zoo import Ensemble, load
from music_zoo.calibration import (
    conformal_threshold,
    fit_temperature,
    label_sets,
    mae_over_temperature,
    plot_mae_over_temperature,
    plot_reliability,
    reject_threshold,
    reliability_curve,
    write_curves,
)
from music_zoo.datasets import LogMelDataset, dequantize, open_splits
from music_zoo.evaluation import (
    bootstrap_interval,
    classification_metrics,
    errors_if_calibrated,
    fit_probe,
)
from music_zoo.evaluation.embedded import embed_split
from music_zoo.files import replacing
from music_zoo.training.data import open_data
from music_zoo.training.examples import vggish
from music_zoo.training.recipe import Recipe, read_recipe
from music_zoo.training.run import train

#: The study's numbers: of one network the mean (and standard deviation) over five, of the ensemble without
#: and with a temperature. Accuracies in percent are from its Table 1, errors (MAE) from its Table 2,
#: temperatures and what they give from its text.
STUDY = {
    "FMA-small, ResNet": ("47.22 (0.78)", "50.74", "0.057 (0.015)", "0.013", "0.013 (T = 1.00)"),
    "FMA-small, MLP": ("45.57 (0.18)", "46.70", "0.106 (0.003)", "0.087", "0.026 (T = 1.65)"),
    "NSynth, ResNet": ("79.96 (0.61)", "81.49", "0.058 (0.006)", "0.068", "0.042 (T = 0.80)"),
    "NSynth, MLP": ("63.99 (0.17)", "65.32", "0.058 (0.007)", "0.034", "0.030 (T = 1.05)"),
}
EMBEDDER = "resnet-fma"  # of notes
RECIPES = Path(__file__).parent / "recipes"
NOTES = """
One network: mean (standard deviation) over {members}; in brackets behind an ensemble's accuracy its 95 %
interval over resampled recordings. MAE: the study's reliability error over all classes in ten buckets, of
which empty ones are left out. Perfect: the error that chance would leave of as many recordings if the
probabilities of the calibrated ensemble were true. T divides logits, and is fitted by likelihood on the
validation split. So are the thresholds of label sets and decisions, which promise nothing of harder music.
Scored here: the {split} split.{limits}"""
NSYNTH_LIMITS = """

The study trained on all of NSynth, some 300,000 notes of over 1,000 instruments. Here the 4,096 notes of its
test set alone are split by instrument, 29 of them for training, so that its numbers are out of reach. Flute,
mallet, reed and vocal are tested on one instrument each; flute, mallet and vocal have none for validation,
so that temperatures are fitted without them. Notes of one instrument are alike: intervals are over resampled
instruments."""

COVERAGE, MAX_ERROR = 0.9, 0.3  # asked for of label sets, and of decisions that are not abstained from
#: Logits `(recordings, members, classes)` and targets, by split.
Logits = dict[str, tuple[np.ndarray, np.ndarray]]


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, score, write tables and pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, what in (("--fma", "log-mels of FMA-small, with vggish.npz"), ("--nsynth", "notes of NSynth")):
        help_ = f"folder of the {what}, and that of the networks trained on them"
        parser.add_argument(name, type=Path, nargs=2, metavar=("DATA", "MEMBERS"), help=help_)
    parser.add_argument("--output", type=Path, required=True, help="folder for tables and pictures")
    parser.add_argument("--members", type=int, default=5, help="networks in an ensemble")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="to score")
    args = parser.parse_args(arguments)
    if not (args.fma or args.nsynth):
        parser.error("give --fma, --nsynth or both")

    results, sweeps = {}, {}
    for name, logits, groups in systems(args):
        results[name], curves, sweeps[name] = measure(logits, args.split, groups)
        place = args.output / f"reliability-{name.replace(', ', '-').lower()}"
        plot_reliability(curves, place.with_suffix(".png"))
        write_curves(curves, place.with_suffix(".csv"))
    plot_mae_over_temperature(sweeps, args.output / "mae-over-temperature.png")
    write_curves(sweeps, args.output / "mae-over-temperature.csv")
    limits = NSYNTH_LIMITS if args.nsynth else ""
    text = tables(results) + NOTES.format(members=args.members, split=args.split, limits=limits) + "\n"
    with replacing(args.output / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    with replacing(args.output / "results.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


# ---- the networks ------------------------------------------------------------------------------------------


def systems(args: argparse.Namespace) -> Iterator[tuple[str, Logits, np.ndarray | None]]:
    """Yield each kind of network on each data set, and what each recording that is scored belongs to."""
    splits = dict.fromkeys(("train", "validation", args.split))
    if args.fma:
        data, run = args.fma
        recipe = read_recipe(RECIPES / "resnet-fma-ensemble.yaml", members=args.members)
        dataset = open_data(recipe, data, run, print)
        yield "FMA-small, ResNet", resnets(dataset, data, run, recipe, args.split), None
        features = {}
        for split in splits:
            _, targets, ids = dataset.split(split)
            features[split] = vggish(data, ids), targets
        yield "FMA-small, MLP", mlps(features, args), None
    if args.nsynth:
        data, run = args.nsynth
        recipe = read_recipe(RECIPES / "resnet-nsynth-ensemble.yaml", members=args.members)
        dataset = open_data(recipe, data, run, print)
        notes = open_splits(data).groups
        instruments = np.array([notes[note] for note in dataset.split(args.split).ids])
        yield "NSynth, ResNet", resnets(dataset, data, run, recipe, args.split), instruments
        features = {split: embeddings(data, args.output, split) for split in splits}
        yield "NSynth, MLP", mlps(features, args), instruments


def resnets(dataset: LogMelDataset, data: Path, run: Path, recipe: Recipe, scored: str) -> Logits:
    """Return what the ResNets of a run say, after training those that are missing."""
    if len(list(run.glob("member-*/preset"))) < recipe.members:
        train(recipe, data, run)
    presets = sorted(run.glob("member-*/preset"))[: recipe.members]
    network = Ensemble([load(preset) for preset in presets]).view("features", "logits")
    logits = {}
    for split in {"validation", scored}:
        features, targets, _ = dataset.split(split)
        logits[split] = network.predict(dequantize(features), batch_size=64, verbose=0), targets
    return logits


def mlps(features: dict[str, tuple[np.ndarray, np.ndarray]], args: argparse.Namespace) -> Logits:
    """Return the logarithms of what MLPs of different seeds on embeddings say."""
    train, validation = features.pop("train"), features["validation"]
    probes = [fit_probe("mlp", *train, validation=validation, seed=seed) for seed in range(args.members)]
    return {
        split: (
            np.stack([np.log(probe.predict_proba(x) + 1e-12) for probe in probes], axis=1),
            targets,
        )
        for split, (x, targets) in features.items()
    }


def embeddings(folder: Path, output: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of notes, computed once, and their targets."""
    stored = output / f"embeddings-{split}.npz"
    if not stored.exists():
        embedded = embed_split(load(EMBEDDER), open_splits(folder), split)
        with replacing(stored) as temporary, temporary.open("wb") as file:
            np.savez(file, features=embedded.means, targets=embedded.targets)
    with np.load(stored) as arrays:
        return arrays["features"], arrays["targets"]


# ---- the numbers -------------------------------------------------------------------------------------------


def measure(logits: Logits, split: str, groups: np.ndarray | None = None) -> tuple[dict, dict, object]:
    """Return metrics, reliability curves, and the error of the ensemble over the temperature."""
    scored, targets = logits[split]
    temperature = fit_temperature(*logits["validation"])
    posteriors = softmax(scored.astype(np.float64), axis=-1)
    ensembles = {
        "ensemble": posteriors.mean(axis=1),
        "calibrated ensemble": softmax(scored.astype(np.float64) / temperature, axis=-1).mean(axis=1),
    }
    result = {name: classification_metrics(values, targets) for name, values in ensembles.items()}
    result["single"] = [
        classification_metrics(posteriors[:, member], targets) for member in range(posteriors.shape[1])
    ]
    result |= rejection(ensembles["calibrated ensemble"], targets, logits["validation"], temperature)
    result["perfect"] = errors_if_calibrated(ensembles["calibrated ensemble"])
    result["temperature"] = temperature
    result["interval"] = bootstrap_interval(
        lambda p, t: float((p.argmax(axis=1) == t).mean()), ensembles["ensemble"], targets, groups=groups
    )
    curves = {
        name: reliability_curve(values, targets)
        for name, values in {"one network": posteriors[:, 0], **ensembles}.items()
    }
    return result, curves, mae_over_temperature(scored, targets, fitted=temperature)


def rejection(
    posteriors: np.ndarray, targets: np.ndarray, held_out: tuple[np.ndarray, np.ndarray], temperature: float
) -> dict:
    """Return what thresholds from the validation split are worth: of label sets, and of abstaining."""
    scored, known = held_out
    held_out_posteriors = softmax(scored.astype(np.float64) / temperature, axis=-1).mean(axis=1)
    sets = label_sets(posteriors, conformal_threshold(held_out_posteriors, known, COVERAGE))
    result = {
        "set_coverage": sets[np.arange(len(targets)), targets].mean(),
        "set_size": sets.sum(axis=1).mean(),
    }
    try:
        threshold = reject_threshold(held_out_posteriors, known, MAX_ERROR).min_confidence
    except ValueError:  # none can be guaranteed: all is abstained from
        return result | {"accepted": 0.0, "accepted_error": None}
    accepted = posteriors.max(axis=1) >= threshold
    wrong = posteriors.argmax(axis=1) != targets
    return result | {
        "accepted": accepted.mean(),
        "accepted_error": wrong[accepted].mean() if accepted.any() else None,
    }


def tables(results: dict[str, dict]) -> str:
    """Return Tables 1 and 2 of the study beside ours, and two of what it does not report."""

    def one(name: str, metric: str, form: str, scale: float = 1.0) -> str:
        values = scale * np.array([member[metric] for member in results[name]["single"]])
        return f"{values.mean():{form}} ({values.std(ddof=len(values) > 1):{form}})"

    accuracy, error, others, rejected = [], [], [], []
    for name, result in results.items():
        low, high = 100 * np.array(result["interval"])
        study, ensemble, calibrated = STUDY[name], result["ensemble"], result["calibrated ensemble"]
        together = f"{100 * ensemble['accuracy']:.2f} [{low:.1f} to {high:.1f}]"
        accuracy.append([name, study[0], one(name, "accuracy", ".2f", 100), study[1], together])
        fitted = f"{calibrated['mae']:.3f} (T = {result['temperature']:.2f})"
        ours = [one(name, "mae", ".3f"), f"{ensemble['mae']:.3f}", fitted]
        beside_ours = [cell for pair in zip(study[2:], ours, strict=True) for cell in pair]
        error.append([name, *beside_ours, f"{result['perfect']['mae']:.3f}"])
        wrong = "" if result["accepted_error"] is None else f"{100 * result['accepted_error']:.1f}"
        held = [f"{100 * result['set_coverage']:.1f}", f"{result['set_size']:.2f}"]
        rejected.append([name, *held, f"{100 * result['accepted']:.1f}", wrong])
        for metric in ("nll", "ece", "brier"):
            perfect = f"{result['perfect'][metric]:.3f}" if metric in result["perfect"] else ""
            cells = [f"{ensemble[metric]:.3f}", f"{calibrated[metric]:.3f}", perfect]
            others.append([f"{name}: {metric}", one(name, metric, ".3f"), *cells])
    heads = ["one network", "ensemble", "calibrated ensemble"]
    beside = [f"{head}, {whose}" for head in heads for whose in ("study", "here")]
    return "\n".join(
        [
            *table("Accuracy in % (Table 1 of the study)", beside[:4], accuracy),
            *table("Reliability error, MAE (Table 2 of the study)", [*beside, "perfect"], error),
            *table("Other measures, here", [*heads, "perfect"], others),
            *table(
                f"Label sets for {COVERAGE:.0%}, decisions of which {MAX_ERROR:.0%} may be wrong",
                ["sets that hold the label, %", "labels in a set", "decided, %", "of these wrong, %"],
                rejected,
            ),
        ]
    )


def table(title: str, heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [["", *heads], ["---"] * (len(heads) + 1), *rows]
    return [f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


if __name__ == "__main__":
    main()
