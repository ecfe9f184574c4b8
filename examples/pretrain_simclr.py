"""Pretrain SampleCNN without labels by SimCLR, on the waveforms of your own audio, as CLMR does.

    python examples/pretrain_simclr.py ~/music/by-mood --output runs/clmr

The folder holds one sub-folder per label; the labels serve only the probe at the end. CLMR is Spijkervet and
Burgoyne 2021, arXiv:2103.09410. This script is yours to copy and change: everything in it is ordinary Keras.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioDataset, AudioFolder, AudioSplit
from music_zoo.datasets.streaming import AudioBatches
from music_zoo.evaluation import probe
from music_zoo.evaluation.embedded import embed_split
from music_zoo.layers import FrontEnd
from music_zoo.layers.augmentation import TwoSegments, clmr
from music_zoo.models import SampleCNN
from music_zoo.pretraining import SimCLR, TwoViews

RATE = 22_050
SAMPLES = 59_049  # of a view, 2.7 s
WIDTHS = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512)


def main(arguments: list[str] | None = None) -> None:
    """Pretrain, probe, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="one sub-folder of audio files per label")
    parser.add_argument("--output", type=Path, required=True, help="preset folder to write")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--clip", type=float, default=5.4, help="seconds of a file that hold both views")
    args = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    files = AudioFolder(args.folder)
    parts = train_test_split(np.arange(len(files)), test_size=0.2, stratify=files.targets, random_state=0)
    splits = {
        name: AudioSplit(tuple(files.paths[i] for i in rows), files.targets[rows], tuple(map(str, rows)))
        for name, rows in zip(("train", "test"), parts, strict=True)
    }
    data = AudioDataset("folder", args.folder, files.labels, "single_label", splits, archive="the files")

    backbone = SampleCNN(WIDTHS, stem_padding=0, last_kernel=3)
    front_end = FrontEnd([], RATE)  # the network listens to waveforms
    classifier = Classifier(
        front_end, backbone, files.labels, window=SAMPLES / RATE, dropout=0.5, name=args.output.name
    )
    encoder = classifier.view("waveform", "embedding")

    # Two parts of a clip, which may overlap, each changed at random: pitch, echo, room, ...
    views = TwoViews(TwoSegments(SAMPLES, -SAMPLES, seed=1), [clmr(RATE, seed=2)])
    trainer = SimCLR(encoder, views, temperature=0.5)
    trainer.compile(keras.optimizers.Adam(3e-4), jit_compile=encoder.jit_compile)
    # A random clip of each file in each epoch, decoded while the network learns.
    with AudioBatches(data.split("train"), args.batch_size, args.clip, RATE, unlabelled=True) as batches:
        trainer.fit(batches, epochs=args.epochs, shuffle=False, verbose=2)

    # What the embeddings know of the labels: a linear classifier on top, scored on files held out.
    embedded = {name: embed_split(classifier, data, name) for name in splits}
    result = probe("linear", {name: (part.means, part.targets) for name, part in embedded.items()})
    low, high = result.intervals["accuracy"]
    print(f"linear probe: {result.metrics['accuracy']:.1%} accuracy ({low:.1%} to {high:.1%})")
    classifier.save_preset(args.output)
    print(f"wrote {args.output}: music_zoo.load({str(args.output)!r}, labels=[...]) gives it a new head")


if __name__ == "__main__":
    main()
