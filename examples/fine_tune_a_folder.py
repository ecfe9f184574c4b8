"""Fine-tune a preset on a folder of your own audio, one sub-folder per label.

    python examples/fine_tune_a_folder.py ~/music/by-mood --output my-moods
    music-zoo tag song.mp3 --model my-moods

A fifth of the files is held out: it fits the temperature and gives the score that is printed. Copy this
script and change it: everything in it is ordinary Keras.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.model_selection import train_test_split

import music_zoo
from music_zoo.calibration import fit_temperature
from music_zoo.datasets import AudioFolder


def main(arguments: list[str] | None = None) -> None:
    """Read, train the head, train everything, calibrate, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="one sub-folder of audio files per label")
    parser.add_argument("--output", type=Path, required=True, help="preset folder to write")
    parser.add_argument("--model", default="resnet-fma", help="preset to start from")
    parser.add_argument("--epochs", type=int, default=20, help="of each of the two stages")
    args = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    data = AudioFolder(args.folder)
    classifier = music_zoo.load(args.model, labels=data.labels)

    # The front end has nothing to learn, so the features of all windows are computed once. A file of several
    # windows gives several examples; windows of one file stay together when some are held out.
    files = list(classifier.infer(data.paths, "features"))
    broken = [file for file in files if isinstance(file, music_zoo.MusicZooError)]
    for error in broken:
        print(f"skipped: {error}")
    usable = [i for i, file in enumerate(files) if not isinstance(file, music_zoo.MusicZooError)]
    features = [files[i].outputs for i in usable]
    targets = data.targets[usable]
    train, held_out = train_test_split(
        np.arange(len(usable)), test_size=0.2, stratify=targets, random_state=0
    )
    x = np.concatenate([features[i] for i in train])
    y = np.repeat(targets[train], [len(features[i]) for i in train])

    network = classifier.features_model
    classifier.backbone.trainable = False  # first the new head alone, else its noise spoils the backbone
    network.compile(keras.optimizers.Adam(1e-2))
    network.fit(x, y, batch_size=16, epochs=args.epochs, verbose=2)
    classifier.backbone.trainable = True
    network.compile(keras.optimizers.Adam(1e-4))
    network.fit(x, y, batch_size=16, epochs=args.epochs, verbose=2)

    logits = classifier.view("features", "logits")
    held_out_logits = [logits.predict(features[i], verbose=0) for i in held_out]
    correct = [z.mean(axis=0).argmax() == targets[i] for z, i in zip(held_out_logits, held_out, strict=True)]
    print(f"{np.mean(correct):.1%} of {len(correct)} held-out files are classified right")
    if len(held_out) >= 20:
        classifier.calibrator.temperature.assign(fit_temperature(held_out_logits, targets[held_out]))
        print(f"temperature {float(classifier.calibrator.temperature):.2f}")
    else:
        print("too few held-out files to fit a temperature: the probabilities are not calibrated")
    classifier.save_preset(args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
