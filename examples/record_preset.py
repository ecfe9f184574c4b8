"""Bundle a trained preset: copy it into the package, measure it, write its entry into the weights manifest.

    python examples/record_preset.py runs/resnet-fma/preset --data fma-small-logmel
        --card examples/cards/resnet-fma.json

The card holds what no program can know: description, licence, training data, limits, citation. How it was
trained and how long that took is read from the recipe of its name; everything else, sizes, hashes, labels and
results, from the preset, or measured. Weights are rounded to 16-bit floats first, so that what is measured is
what is bundled. The test split is looked at here. A measured speed is kept while the network is the same.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import music_zoo
from music_zoo.audio_model import AudioModel
from music_zoo.datasets import open_dataset
from music_zoo.evaluation.evaluate import evaluate
from music_zoo.golden import make_golden
from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.manifest import PresetEntry, Result, read_manifest, update_manifest
from music_zoo.hub.preset_files import read_preset, write_preset
from music_zoo.hub.schema import BundledSource, FileRecord
from music_zoo.training.recipe import read_recipe

PRESETS = Path(music_zoo.__file__).parent / "presets"
RECIPES = Path(__file__).parent / "recipes"


def main(arguments: list[str] | None = None) -> None:
    """Copy, measure, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", type=Path, help="preset folder, as training wrote it")
    parser.add_argument("--card", type=Path, required=True, help="JSON with the texts of the entry")
    parser.add_argument("--data", type=Path, required=True, help="folder to measure on")
    args = parser.parse_args(arguments)

    name = music_zoo.load(args.preset).name
    before = read_manifest().get(name)
    classifier = bundle(args.preset, PRESETS / name)
    dataset = open_dataset(args.data)
    results = []
    for split in ("validation", "test"):
        evaluation = evaluate(classifier, dataset, split, resamples=1000)
        results.append(
            Result(
                dataset=Path(dataset.name).name,  # of audio it is the folder
                split=split,
                examples=evaluation.examples,
                metrics={key: round(value, 4) for key, value in evaluation.metrics.items()},
                uncalibrated={key: round(value, 4) for key, value in evaluation.uncalibrated.items()},
                intervals={
                    key: (round(low, 4), round(high, 4))
                    for key, (low, high) in evaluation.intervals["calibrated"].items()
                },
                resampled=evaluation.resampled if evaluation.resampled != "recordings" else "",
                note="With perfect probabilities, chance alone would leave an ECE of "
                "{ece:.3f} and an MAE of {mae:.3f}.".format(**evaluation.if_calibrated),
                command=f"music-zoo evaluate --model {name} --data {args.data.name} --split {split}",
            )
        )
        print(evaluation.to_text())

    recipe, training = RECIPES / f"{name}.yaml", {}
    if recipe.exists():
        data = f"--data {args.data.name} --output runs/{name}"
        training["training_command"] = f"music-zoo train examples/recipes/{recipe.name} {data}"
        training["training_cost"] = read_recipe(recipe).cost
    files = {file: FileRecord.of(PRESETS / name / file) for file in PRESET_FILES}
    same_network = before and before.files["config.json"] == files["config.json"]
    entry = PresetEntry(
        **training | json.loads(args.card.read_text()),
        architecture=classifier.architecture,
        task=classifier.task,
        labels=classifier.labels,
        sample_rate=classifier.sample_rate,
        window_seconds=classifier.window,
        parameters=classifier.count_params(),
        sources=(BundledSource(),),
        files=files,
        results=tuple(results),
        speed=before.speed if same_network else "",
    )
    update_manifest(name, entry)
    print(f"wrote {PRESETS / name} and the manifest's entry {name}")


def bundle(source: Path, folder: Path) -> AudioModel:
    """Copy a preset with its weights as 16-bit floats, and return it; the calibrator keeps its digits."""
    files = read_preset(source)
    half = {
        name: tensor if name.startswith("calibrator.") else tensor.astype(np.float16)
        for name, tensor in files.tensors.items()
    }
    write_preset(folder, files.config, half)
    classifier = music_zoo.load(folder)
    write_preset(folder, files.config, half, make_golden(classifier))
    return classifier


if __name__ == "__main__":
    main()
