"""Pretrain a Swin Transformer without labels by MoCo, on stored log-mels, and see what it has learnt.

    python examples/pretrain_moco.py --data fma-small-logmel --output runs/moco

Run it again to take up an interrupted training. `music-zoo pretrain --method moco` does the same with more
settings; this script is yours to copy and change: everything in it is ordinary Keras.
"""

import argparse
from pathlib import Path

import keras

from music_zoo.classifier import Classifier
from music_zoo.datasets import open_dataset
from music_zoo.datasets.batches import ImageBatches
from music_zoo.evaluation import probe
from music_zoo.evaluation.embedded import embed_split, probed_classifier
from music_zoo.layers import FrontEnd
from music_zoo.layers.augmentation import TwoSegments, s3t
from music_zoo.models import Swin
from music_zoo.pretraining import MoCo, TwoViews
from music_zoo.pretraining.checkpoints import Checkpoint
from music_zoo.pretraining.schedules import warmup_cosine

NETWORK = {"patch_size": 8, "embed_dim": 48, "depths": (2, 2, 2), "heads": (3, 6, 12), "window": 4}


def main(arguments: list[str] | None = None) -> None:
    """Pretrain, probe, save a tagger."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of log-mels, see music_zoo.datasets")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints and the preset")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    data = open_dataset(args.data)
    backbone = Swin(**NETWORK)
    front_end = FrontEnd.from_config(data.front_end)
    classifier = Classifier(front_end, backbone, data.labels, window=data.seconds, name=args.output.name)
    encoder = classifier.view("features", "embedding")

    # Two parts of a track, three eighths of it each, which do not overlap; each of them changed at random.
    length = data.features.shape[2] * 3 // 8
    views = TwoViews(TwoSegments(length, seed=1), [s3t(seed=2)])
    trainer = MoCo(encoder, views, temperature=0.2, momentum=0.99, queue_length=4096, seed=3)
    print(f"{encoder.count_params():,} parameters")

    batches = ImageBatches(data.split("train").features, args.batch_size)
    steps = args.epochs * len(batches)
    optimizer = keras.optimizers.AdamW(
        warmup_cosine(1e-3, steps, warmup_steps=steps // 20), weight_decay=0.05, clipnorm=3.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    trainer.compile(optimizer, jit_compile=encoder.jit_compile)
    trainer.optimizer.build(trainer.trainable_variables)  # so that a checkpoint finds its places

    checkpoint = Checkpoint(args.output, {"epochs": args.epochs, "batch_size": args.batch_size})
    done = batches.epoch = checkpoint.restore(trainer, print)
    if done < args.epochs:
        # Without `shuffle=False` Keras would draw an order that a resumed run does not repeat.
        trainer.fit(
            batches,
            epochs=args.epochs,
            initial_epoch=done,
            shuffle=False,
            callbacks=[checkpoint],
            verbose=2,
        )

    # What the embeddings know of genres: a linear classifier on top. Test tracks are looked at here.
    embedded = {split: embed_split(classifier, data, split) for split in ("train", "validation", "test")}
    result = probe("linear", {split: (part.means, part.targets) for split, part in embedded.items()})
    low, high = result.intervals["accuracy"]
    print(f"linear probe: {result.metrics['accuracy']:.1%} accuracy ({low:.1%} to {high:.1%})")

    tagger = probed_classifier(
        classifier, result.probe, data.labels, "single_label", args.output.name, embedded["validation"]
    )
    tagger.save_preset(args.output / "preset")
    print(f"wrote {args.output / 'preset'}: music-zoo tag song.mp3 --model {args.output / 'preset'}")


if __name__ == "__main__":
    main()
