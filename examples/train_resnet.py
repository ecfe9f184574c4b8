"""Train the ResNet presets from log-mels: the recipe of `resnet-fma`, `resnet-gtzan` and `resnet-nsynth`.

    python examples/train_resnet.py --data fma-small-logmel --output runs/resnet-fma
    python examples/train_resnet.py --data gtzan-logmel --output runs/resnet-gtzan
        --start runs/resnet-fma/preset --epochs 100 --crop 194
    python examples/train_resnet.py --data nsynth-test --output runs/resnet-nsynth
        --epochs 8 --crop 56 --learning-rate 5e-4 --mixup 1
    python examples/train_resnet.py --data fma-small-logmel --output runs/resnet-fma-ensemble
        --members 5 --epochs 32

A folder holds log-mel images, or the notes of NSynth, and a split (see `music_zoo.datasets`). Training looks
at the training split, the temperature is fitted on the validation split, the test split is not touched:
`music-zoo evaluate` does that, once. A run that is interrupted goes on where it stopped when the same command
is given again.

With `--members`, that many are trained, one after another, each with a seed of its own. Each is the run that
`--seed SEED+i --output OUTPUT/member-i` is, so that they may as well be trained that way, on several
machines, and gathered by the same command with `--members`: it trains only what has no preset yet.

Where the folder also has VGGish embeddings of the tracks (Hershey et al. 2017, arXiv:1609.09430), the
network learns from them as well, as a student (Hinton et al. 2015, arXiv:1503.02531): it predicts the
embedding, and half of its genre target is what a support vector machine on the embedding says of tracks
that it was not trained on. Names of finer genres, where there are any, are a third target. None of this is
needed to use the classifier.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # the fastest for 2-D convolutions on a CPU

import keras
import numpy as np

from music_zoo import Classifier, Ensemble, load
from music_zoo.audio_model import AudioModel
from music_zoo.datasets import LogMelDataset, compute_log_mels, dequantize, open_splits
from music_zoo.ensemble import CALIBRATE_ON
from music_zoo.layers import FrontEnd
from music_zoo.models import ResNet

#: What notes of NSynth are seen through: window, hop and bands are those of Lukashevich et al. (2023,
#: doi:10.1145/3616195.3616228), a note one image of 64 bands and 63 frames.
NOTES = {
    "sample_rate": 16_000,
    "layers": [
        {"layer": "STFT", "config": {"n_fft": 2048, "hop_length": 1024}},
        {"layer": "MelFilterBank", "config": {"sample_rate": 16_000, "n_fft": 2048, "n_mels": 64}},
        {"layer": "Decibels", "config": {"ref": "max", "top_db": 80.0}},
        {"layer": "MinMaxNormalization"},
    ],
}
NOTE_SECONDS = 4.0
MIN_TAG_TRACKS = 50  # a finer genre with fewer training tracks is no target


def main(arguments: list[str] | None = None) -> None:
    """Train, calibrate, write a preset folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of FMA-small, GTZAN or NSynth")
    parser.add_argument("--output", type=Path, required=True, help="where checkpoints and the preset go")
    parser.add_argument("--start", help="preset whose backbone to start from")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--crop", type=int, default=64, help="frames of a training example")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument(
        "--mixup", type=float, default=0.4, help="alpha of mixup (arXiv:1710.09412); 0 is none"
    )
    parser.add_argument("--precision", default="float32", help="mixed_bfloat16 is faster where it is native")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, default=1, help="classifiers to train; more make an ensemble")
    parser.add_argument("--calibrate-on", choices=CALIBRATE_ON, default="mean", help="of an ensemble")
    args = parser.parse_args(arguments)

    dataset = read(args.data, args.output / "features")
    if args.members == 1:
        train(dataset, args)
        return
    members = [member(dataset, args, number) for number in range(args.members)]
    ensembles = {
        place: Ensemble(members, calibrate_on=place, name=args.output.name) for place in CALIBRATE_ON
    }
    for place, ensemble in ensembles.items():
        print(f"calibrated on {place}: ", end="")
        calibrate(ensemble, dataset)
    ensembles[args.calibrate_on].save_preset(args.output / "preset")
    print(f"wrote {args.output / 'preset'}")


def member(dataset: LogMelDataset, args: argparse.Namespace, number: int) -> AudioModel:
    """A member of an ensemble, from its preset folder, which is made first if need be."""
    output = args.output / f"member-{number}"
    if not (output / "preset").exists():
        train(dataset, argparse.Namespace(**vars(args) | {"output": output, "seed": args.seed + number}))
    return load(output / "preset")


def train(dataset: LogMelDataset, args: argparse.Namespace) -> None:
    """Train one classifier, calibrate it, write its preset folder."""
    keras.utils.set_random_seed(args.seed)
    keras.config.set_dtype_policy(args.precision)
    classifier = new_classifier(dataset, args.output.name)
    if args.start:
        classifier.set_tensors(load(args.start).tensors(), parts=["backbone"])
    targets = training_targets(dataset, args.data)
    trainer = training_model(classifier, targets, args)
    features, _, _ = dataset.split("train")
    args.output.mkdir(parents=True, exist_ok=True)
    batches = Batches(features, targets, args)
    trainer.fit(
        batches,
        epochs=args.epochs,
        shuffle=False,  # `Batches` shuffles
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch)
            ),
            ValidationScore(classifier, dataset),
            keras.callbacks.CSVLogger(args.output / "log.csv", append=True),
            keras.callbacks.BackupAndRestore(args.output / "backup"),
        ],
        verbose=2,
    )
    keras.config.set_dtype_policy("float32")  # of what is calibrated and used
    trained = new_classifier(dataset, args.output.name)
    trained.set_tensors(classifier.tensors())
    calibrate(trained, dataset)
    trained.save_preset(args.output / "preset")
    print(f"wrote {args.output / 'preset'}")


def read(folder: Path, kept: Path) -> LogMelDataset:
    """Return the log-mels of a data set; those of notes are computed from their audio once, and kept."""
    dataset = open_splits(folder)
    if isinstance(dataset, LogMelDataset):
        return dataset
    return compute_log_mels(dataset, FrontEnd.from_config(NOTES), NOTE_SECONDS, kept)


def new_classifier(dataset: LogMelDataset, name: str) -> Classifier:
    """An untrained classifier whose front end makes the data set's features from audio."""
    return Classifier(
        FrontEnd.from_config(dataset.front_end),
        ResNet(n_mels=dataset.features.shape[1]),
        dataset.labels,
        window=dataset.seconds,
        dropout=0.2,
        name=name,
    )


def training_targets(dataset: LogMelDataset, folder: Path) -> dict[str, np.ndarray]:
    """Everything that the network learns to predict of each training track, by name of the output."""
    _, genre, ids = dataset.split("train")
    targets = {"genre": np.eye(len(dataset.labels), dtype=np.float32)[genre]}
    if (folder / "vggish.npz").exists():
        embedding = vggish(folder, ids)
        embedding = (embedding - embedding.mean(axis=0)) / (embedding.std(axis=0) + 1e-6)
        targets["genre"] = (targets["genre"] + teacher(embedding, genre)) / 2
        targets["vggish"] = embedding
    tag_names = sorted({name for names in dataset.tags for name in names})
    if len(tag_names) > len(dataset.labels):
        tags = dataset.tag_targets("train", tag_names)
        targets["tags"] = tags[:, tags.sum(axis=0) >= MIN_TAG_TRACKS].astype(np.float32)
    return targets


def vggish(folder: Path, ids: np.ndarray) -> np.ndarray:
    """Return the VGGish embeddings of tracks, `(tracks, 128)`."""
    with np.load(folder / "vggish.npz") as stored:
        rows = {track: row for row, track in enumerate(stored["track_id"].astype(str))}
        return stored["embedding"][[rows[track] for track in ids]].astype(np.float32)


def teacher(embedding: np.ndarray, genre: np.ndarray) -> np.ndarray:
    """Genre probabilities `(tracks, genres)`, of each track from machines trained on other tracks."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.svm import SVC

    margins = cross_val_predict(SVC(C=2), embedding, genre, cv=10, method="decision_function")
    margins = margins.reshape(len(genre), -1)
    return LogisticRegression(max_iter=2000).fit(margins, genre).predict_proba(margins).astype(np.float32)


def training_model(classifier: Classifier, targets: dict, args: argparse.Namespace) -> keras.Model:
    """The classifier's network with an output for each target, compiled."""
    embedding = classifier.view("features", "embedding")
    dropped = keras.layers.Dropout(classifier.dropout)(embedding.output)
    outputs = {
        name: keras.layers.Dense(values.shape[1], name=name)(dropped) for name, values in targets.items()
    }
    outputs["genre"] = classifier.head(dropped)
    losses = {
        "genre": keras.losses.CategoricalCrossentropy(from_logits=True),
        "vggish": keras.losses.MeanSquaredError(),
        "tags": keras.losses.BinaryCrossentropy(from_logits=True),
    }
    weights = {"genre": 2.0, "vggish": 1.0, "tags": 10.0}
    steps = len(targets["genre"]) // args.batch_size
    total = steps * args.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        args.learning_rate / 20,
        total - 2 * steps,
        alpha=0.002,
        warmup_target=args.learning_rate,
        warmup_steps=2 * steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=args.weight_decay, clipnorm=2.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model = keras.Model(embedding.input, outputs)
    model.compile(
        optimizer,
        loss={name: losses[name] for name in outputs},
        loss_weights={name: weights[name] for name in outputs},
        jit_compile=keras.config.backend() == "jax",
    )
    return model


class Batches(keras.utils.PyDataset):
    """Random crops of the training images, equalised, mixed and masked.

    Each batch depends on the seed, the epoch and its number alone, so that a resumed run sees what an
    uninterrupted one sees. In the last eighth of the epochs nothing is mixed or masked, and the batch
    statistics become those of real music.
    """

    def __init__(self, features: np.ndarray, targets: dict[str, np.ndarray], args: argparse.Namespace):
        super().__init__()
        self.features, self.targets, self.args = features, targets, args
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.features) // self.args.batch_size

    def __getitem__(self, index: int):
        args = self.args
        order = np.random.default_rng((args.seed, self.epoch)).permutation(len(self.features))
        rows = order[index * args.batch_size : (index + 1) * args.batch_size]
        rng = np.random.default_rng((args.seed, self.epoch, index))
        starts = rng.integers(0, self.features.shape[2] - args.crop + 1, len(rows))
        images = np.stack([self.features[r, :, s : s + args.crop] for r, s in zip(rows, starts, strict=True)])
        images = equalize(dequantize(images), rng)
        targets = {name: values[rows] for name, values in self.targets.items()}
        if self.epoch < args.epochs * 7 // 8:
            if args.mixup:
                share = rng.beta(args.mixup, args.mixup, (len(rows), 1)).astype(np.float32)
                share, partner = np.maximum(share, 1 - share), rng.permutation(len(rows))
                images = share[..., None] * images + (1 - share[..., None]) * images[partner]
                targets = {name: share * v + (1 - share) * v[partner] for name, v in targets.items()}
            mask(images, rng)
        return images, targets


def equalize(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another loudness range and a smooth random tone control for each `(images, n_mels, frames)`."""
    points = rng.normal(0, 0.04, (len(images), 6))
    at = np.linspace(0, points.shape[1] - 1, images.shape[1])
    curves = np.stack([np.interp(at, np.arange(points.shape[1]), p) for p in points])
    gains = 1 + rng.normal(0, 0.08, (len(images), 1, 1))
    return ((images + curves[..., None]) * gains).astype(np.float32)


def mask(images: np.ndarray, rng: np.random.Generator) -> None:
    """Blank two stretches of bands and two of frames in each image, in place (arXiv:1904.08779)."""
    for image in images:
        blank = image.mean()
        for axis, longest in ((0, 16), (0, 16), (1, 8), (1, 8)):
            width = rng.integers(0, longest + 1)
            start = rng.integers(0, image.shape[axis] - width + 1)
            image.swapaxes(0, axis)[start : start + width] = blank


class ValidationScore(keras.callbacks.Callback):
    """Log accuracy on whole validation tracks every fifth epoch."""

    def __init__(self, classifier: Classifier, dataset: LogMelDataset):
        super().__init__()
        self.classifier, self.dataset = classifier, dataset

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Score, and add the result to the logs."""
        last = epoch + 1 == self.params["epochs"]
        if epoch % 5 == 4 or last:
            features, genre, _ = self.dataset.split("validation")
            scores = self.classifier.features_model.predict(dequantize(features), batch_size=64, verbose=0)
            logs["val_accuracy"] = float(np.mean(scores.argmax(axis=1) == genre))
            logs["val_nll"] = float(-np.mean(np.log(scores[np.arange(len(genre)), genre] + 1e-9)))
        else:
            logs["val_accuracy"] = logs["val_nll"] = float("nan")


def calibrate(model: AudioModel, dataset: LogMelDataset) -> None:
    """Fit the temperature on the validation split."""
    features, genre, _ = dataset.split("validation")
    logits = model.view("features", "logits").predict(dequantize(features), batch_size=64, verbose=0)
    model.calibrate_logits(logits, genre)
    truth = model.probabilities_of(logits)[np.arange(len(genre)), genre]
    nll = -np.log(truth.astype(np.float64)).mean()
    print(f"temperature {float(model.calibrator.temperature):.3f}, validation NLL {nll:.4f}")


if __name__ == "__main__":
    main()
