"""The one trainer of all methods that learn from two views of a clip, on TensorFlow, JAX and PyTorch.

A method is a subclass that adds `call` (what the networks make of the views) and `loss_of`. Keras' own
trainers do the rest, so `compile` and `fit` work as for any model.
"""

import keras
import numpy as np
from keras import ops

from music_zoo.datasets.batches import Batches
from music_zoo.errors import PretrainingError
from music_zoo.layers.fused import BatchNormalization, Dense


class Pretrainer(keras.Model):
    """A model that learns an encoder from unlabelled clips.

    Every state of a method (target networks, queue, centre, step, random generators) is a variable of the
    model: what saves the model's and the optimizer's variables saves the training. Under
    `keras.distribution.DataParallel` (JAX) a batch is one batch over all devices: negatives, queue and batch
    statistics are global, not per device.

    Args:
        encoder: A model from a view to its embedding, `(batch, embedding_dim)`, such as
            `classifier.view("features", "embedding")`. It is trained in place.
        views: What makes two views of a batch of clips: a layer that returns a pair (such as `TwoViews`).
            None: the data are pairs already, in a `PyDataset` as `((first, second),)`.
        name: Name of the model.
    """

    #: The least and the largest batch that the loss can use.
    min_batch: int = 2
    max_batch: int | None = None

    def __init__(
        self, encoder: keras.Model, views: keras.layers.Layer | None = None, name: str | None = None
    ):
        super().__init__(name=name, autocast=False)  # clips keep float32 until the networks take them
        self.encoder = encoder
        self.views = views
        self.step = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="step"
        )
        self.spread = keras.metrics.Mean(name="spread")
        self._targets: list[tuple[keras.Variable, keras.Variable]] = []

    # ---- what the methods use -----------------------------------------------------------------------------

    def two_views(self, clips, training: bool):
        """Return the two views of each clip."""
        pair = clips if self.views is None else self.views(clips, training=training)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise PretrainingError(
                f"{type(self).__name__} needs two views of each clip, got {type(pair).__name__}. Give it "
                "`views`, such as TwoViews, or data that are pairs."
            )
        return tuple(pair)

    def target_of(self, online: keras.Model, with_statistics: bool = False) -> keras.Model:
        """Return a copy of a network that `move_targets` moves towards it, and that no gradient reaches.

        The copy has random generators of its own, as dropout of the same units would relate both networks.

        Args:
            online: The network that is trained.
            with_statistics: Average the running statistics of its batch normalisation, too; else the copy
                gathers its own.
        """
        target = keras.models.clone_model(online)
        for ours, theirs in zip(target.variables, online.variables, strict=True):
            # By way of NumPy: JAX gives away the buffers of what it trains.
            value = np.array(ops.convert_to_numpy(theirs))
            if theirs.name == "seed_generator_state":
                value[0] = np.random.SeedSequence(int(value[0])).generate_state(1)[0] >> 1
            ours.assign(value)
            if theirs.trainable or (with_statistics and _is_statistic(theirs)):
                self._targets.append((theirs, ours))
            # Not `target.trainable = False`, which would also end the use of batch statistics.
            ours.trainable = False
        return target

    def move_targets(self, momentum) -> None:
        """Move each target network: `target = momentum * target + (1 - momentum) * online`."""
        for online, target in self._targets:
            target.assign(momentum * target.value + (1 - momentum) * ops.stop_gradient(online.value))

    def loss_of(self, outputs, training: bool):
        """Return the loss of what `call` returned; if `training`, move on what no gradient moves.

        `step` counts the steps before this one.
        """
        raise NotImplementedError

    def watch_spread(self, embeddings) -> None:
        """Follow the spread of normalised outputs: near 1 if they fill the sphere, 0 if they collapsed."""
        normalized = ops.normalize(ops.cast(embeddings, "float32"), axis=-1)
        spread = ops.mean(ops.std(normalized, axis=0)) * ops.sqrt(float(normalized.shape[-1]))
        self.spread.update_state(ops.stop_gradient(spread))

    # ---- what Keras calls ---------------------------------------------------------------------------------

    def train_step(self, *args):
        """One step of training without labels, whichever trainer calls (JAX passes its state first)."""
        return super().train_step(*_without_labels(args))

    def test_step(self, *args):
        """One step of validation without labels."""
        return super().test_step(*_without_labels(args))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the method's loss and what regularizers of the encoder add."""
        added = sum(self.losses)
        loss = self.loss_of(y_pred, training)
        if training:
            self.step.assign_add(1)
        return loss + added

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, on clips (or pairs of views) alone; labels are left unused.

        Raises:
            PretrainingError: Batches that the loss cannot use, seen before the training for arrays and
                `PyDataset`; the message says which it can.
        """
        self._check_batches(x, batch_size)
        return super().fit(x, y, batch_size, *args, **kwargs)

    def _check_batches(self, x, batch_size: int | None) -> None:
        if isinstance(x, Batches):
            sizes = {x.batch_size}
        elif isinstance(x, keras.utils.PyDataset):
            sizes = {len(_leaf(x[number])) for number in {0, (x.num_batches or 1) - 1}}
        elif isinstance(x, np.ndarray | tuple | list) and len(_leaf(x)):
            clips, batch_size = len(_leaf(x)), batch_size or 32
            sizes = {min(clips, batch_size), clips % batch_size or batch_size}
        else:
            return
        for size in sizes:
            if size < self.min_batch or size > (self.max_batch or size):
                most = f" and at most {self.max_batch}" if self.max_batch else ""
                raise PretrainingError(
                    f"{type(self).__name__} needs batches of at least {self.min_batch}{most} clips, got one "
                    f"of {size}. Change the batch size, or drop the last, smaller batch."
                )


def mlp(
    inputs: int, widths: tuple[int, ...], *, name: str, use_bias: bool = True, batch_norm: bool = False
) -> keras.Sequential:
    """Return a projection head: dense layers with ReLU between them (none after the last).

    Args:
        inputs: Width of the embedding.
        widths: Of each layer; none: the identity.
        name: Name of the model.
        use_bias: Give the dense layers a bias.
        batch_norm: Normalise before each ReLU.
    """
    head = keras.Sequential([keras.Input((inputs,))], name=name)
    for number, width in enumerate(widths, start=1):
        head.add(Dense(width, use_bias=use_bias, name=f"dense{number}"))
        if number < len(widths):
            if batch_norm:
                head.add(BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{number}"))
            head.add(keras.layers.ReLU(name=f"relu{number}"))
    if not widths:
        head.add(keras.layers.Identity(name="identity"))
    return head


class TwoViews(keras.layers.Layer):
    """Two views of each clip: two segments, each changed by draws of its own.

    Args:
        segments: A layer that cuts two segments from a batch of clips, such as
            `music_zoo.layers.augmentation.TwoSegments`; None: both views see the whole clip.
        steps: Layers that each segment passes in this order: augmentations of waveforms, a front end,
            augmentations of spectrograms, or some of these.
        name: Name of the layer.
    """

    def __init__(self, segments=None, steps=(), *, name: str | None = None):
        super().__init__(name=name, dtype="float32")
        self.segments = segments
        self.steps = list(steps)

    def call(self, clips, training: bool | None = None):
        """Return the two views."""
        pair = (clips, clips) if self.segments is None else self.segments(clips, training=training)
        return tuple(self._changed(segment) for segment in pair)

    def _changed(self, segment):
        for step in self.steps:
            segment = step(segment)  # Keras tells it whether this is training
        return segment


def _is_statistic(variable: keras.Variable) -> bool:
    return variable.name in ("moving_mean", "moving_variance")


def _without_labels(args: tuple) -> tuple:
    *state, data = args
    clips, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    return (*state, (clips,))


def _leaf(data):
    """Return one array of a batch."""
    while isinstance(data, tuple | list):
        data = data[0]
    return data
