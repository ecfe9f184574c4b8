"""MoCo: recognise a view among many earlier ones, which a slowly moving copy of the network encodes.

He et al. 2020, arXiv:1911.05722, with the head of version 2 (Chen et al. 2020, arXiv:2003.04297); for music
S3T, Zhao et al. 2022, arXiv:2202.10139, whose settings are not public.
"""

import keras
from keras import ops

from music_zoo.errors import PretrainingError
from music_zoo.pretraining.contrastive import Pretrainer, mlp
from music_zoo.pretraining.losses import info_nce, info_nce_logits, unit_length


class MoCo(Pretrainer):
    """Momentum contrast.

    The queue is first in, first out, and of any length from that of a batch on. Where the encoder has batch
    normalisation, query and key of a clip would be normalised together with the same other clips, by which
    the network could tell them (the paper, section 3.3): so each batch is encoded in groups, which for the
    keys are drawn anew.

    Args:
        encoder: As of `Pretrainer`.
        views: As of `Pretrainer`.
        projection: Widths of the projection head; None: `(embedding_dim, 128)`.
        queue_length: Keys that are remembered: 65,536 in the paper, 4,096 in MoBY (arXiv:2105.04553).
        temperature: Of the similarities: 0.2 in version 2, 0.07 in version 1.
        momentum: Share of itself that the key network keeps in a step: 0.999 in the paper, for long
            trainings; 0.99 in MoBY.
        batch_norm: Normalise within the projection head, as in MoBY: without, a small Swin begins slowly.
        groups: Groups of a batch with statistics of their own; None: 4 where encoder or head have batch
            normalisation, else 1.
        seed: Of the queue's first content and the shuffling.
        name: Name of the model.

    Raises:
        PretrainingError: A queue without a place.
    """

    def __init__(
        self,
        encoder: keras.Model,
        views=None,
        *,
        projection: tuple[int, ...] | None = None,
        queue_length: int = 4096,
        temperature: float = 0.2,
        momentum: float = 0.99,
        batch_norm: bool = False,
        groups: int | None = None,
        seed: int | None = None,
        name: str = "moco",
    ):
        super().__init__(encoder, views, name)
        if queue_length < 1:
            raise PretrainingError(
                f"MoCo needs a queue of at least one batch, got queue_length={queue_length}."
            )
        width = encoder.output_shape[-1]
        projection = (width, 128) if projection is None else projection
        self.projector = mlp(width, projection, name="projector", batch_norm=batch_norm)
        self.key_encoder = self.target_of(encoder)
        self.key_projector = self.target_of(self.projector)
        self.max_batch = queue_length
        self.temperature = temperature
        self.momentum = momentum
        parts = [*encoder._flatten_layers(), *self.projector._flatten_layers()]
        has_norm = any(isinstance(part, keras.layers.BatchNormalization) for part in parts)
        self.groups = groups or (4 if has_norm else 1)
        self.min_batch = 1 if self.groups == 1 else 2 * self.groups
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.queue = self.add_weight(
            shape=(queue_length, self.projector.output_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed),
            trainable=False,
            dtype="float32",
            name="queue",
        )
        self.queue.assign(unit_length(self.queue))
        self.accuracy = keras.metrics.Mean(name="accuracy")

    def call(self, clips, training=None):
        """Return the query, `(batch, dim)` of unit length, and the view of which the key is made."""
        first, second = self.two_views(clips, training)
        query = self._encode(self.encoder, self.projector, first, training)
        return query, second

    def loss_of(self, outputs, training):
        """Return the cross-entropy of finding each query's key; move key network and queue on."""
        query, second = outputs
        if training:
            self.move_targets(self.momentum)
        key = ops.stop_gradient(self._key(second, training))
        queue = ops.copy(self.queue)  # PyTorch needs what was read to stay as it was until the gradient
        logits = info_nce_logits(query, key, queue, temperature=self.temperature)
        self.accuracy.update_state(ops.cast(ops.argmax(logits, axis=-1) == 0, "float32"))
        self.watch_spread(query)
        if training:
            self.queue.assign(ops.concatenate([key, queue])[: self.queue.shape[0]])
        return info_nce(logits)

    def _encode(self, encoder, projector, view, training):
        """Encode a view group by group, and scale to unit length."""
        if self.groups == 1 or not training:
            groups = [view]
        else:
            batch = ops.shape(view)[0]
            ends = [group * batch // self.groups for group in range(self.groups + 1)]
            groups = [view[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]
        outputs = [projector(encoder(group, training=training), training=training) for group in groups]
        return unit_length(ops.concatenate(outputs))

    def _key(self, view, training):
        """Encode keys; in groups that are drawn anew, if there are groups."""
        if self.groups == 1 or not training:
            return self._encode(self.key_encoder, self.key_projector, view, training)
        order = ops.argsort(keras.random.uniform((ops.shape(view)[0],), seed=self.seed_generator))
        keys = self._encode(self.key_encoder, self.key_projector, ops.take(view, order, axis=0), training)
        return ops.take(keys, ops.argsort(order), axis=0)
