"""Bundle a trained preset: copy it into the package, measure it, write its entry into the weights manifest.

    python examples/record_preset.py runs/resnet-fma/preset --data fma-small-logmel
        --card examples/cards/resnet-fma.json

The card holds what no program can know: description, licence, training data, limits, citation, training
command. Everything else, sizes, hashes, labels and results, is read from the preset or measured. The test
split is looked at here.
"""

import argparse
import json
import shutil
from pathlib import Path

import music_zoo
from music_zoo.datasets import open_dataset
from music_zoo.evaluation.evaluate import evaluate
from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.manifest import PresetEntry, Result, update_manifest
from music_zoo.hub.schema import BundledSource, FileRecord

PRESETS = Path(music_zoo.__file__).parent / "presets"


def main(arguments: list[str] | None = None) -> None:
    """Copy, measure, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", type=Path, help="preset folder, as training wrote it")
    parser.add_argument("--card", type=Path, required=True, help="JSON with the texts of the entry")
    parser.add_argument("--data", type=Path, required=True, help="folder to measure on")
    args = parser.parse_args(arguments)

    classifier = music_zoo.load(args.preset)
    name = classifier.name
    dataset = open_dataset(args.data)
    results = []
    for split in ("validation", "test"):
        evaluation = evaluate(classifier, dataset, split)
        results.append(
            Result(
                dataset=dataset.name,
                split=split,
                examples=evaluation.examples,
                metrics={key: round(value, 4) for key, value in evaluation.metrics.items()},
                uncalibrated={key: round(value, 4) for key, value in evaluation.uncalibrated.items()},
                note="With perfect probabilities, chance alone would leave an ECE of "
                "{ece:.3f} and an MAE of {mae:.3f}.".format(**evaluation.if_calibrated),
                command=f"music-zoo evaluate --model {name} --data {args.data.name} --split {split}",
            )
        )
        print(evaluation.to_text())

    (PRESETS / name).mkdir(parents=True, exist_ok=True)
    for file in PRESET_FILES:
        shutil.copyfile(args.preset / file, PRESETS / name / file)
    entry = PresetEntry(
        **json.loads(args.card.read_text()),
        architecture=classifier.architecture,
        task=classifier.task,
        labels=classifier.labels,
        sample_rate=classifier.sample_rate,
        window_seconds=classifier.window,
        parameters=classifier.count_params(),
        sources=(BundledSource(),),
        files={file: FileRecord.of(PRESETS / name / file) for file in PRESET_FILES},
        results=tuple(results),
    )
    update_manifest(name, entry)
    print(f"wrote {PRESETS / name} and the manifest's entry {name}")


if __name__ == "__main__":
    main()
