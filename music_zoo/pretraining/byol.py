"""BYOL: from one view, predict what a slowly moving copy of the network makes of the other. No negatives.

Grill et al. 2020, arXiv:2006.07733; settings of the multi-view study (arXiv:2404.09177).
"""

import keras
from keras import ops

from music_zoo.pretraining.contrastive import Pretrainer, mlp
from music_zoo.pretraining.losses import byol
from music_zoo.pretraining.schedules import cosine


class BYOL(Pretrainer):
    """Bootstrap your own latent.

    Args:
        encoder: As of `Pretrainer`.
        views: As of `Pretrainer`.
        projection: Widths of the projection head; (1024, 1024, 2048) in the multi-view study.
        prediction: Hidden width of the predictor.
        momentum: Share of itself that the target network keeps in a step, at the beginning; it rises to 1 on
            a cosine.
        total_steps: Steps until then.
        name: Name of the model.
    """

    def __init__(
        self,
        encoder: keras.Model,
        views=None,
        *,
        total_steps: int,
        projection: tuple[int, ...] = (1024, 1024, 2048),
        prediction: int = 256,
        momentum: float = 0.996,
        name: str = "byol",
    ):
        super().__init__(encoder, views, name)
        self.projector = mlp(
            encoder.output_shape[-1], projection, name="projector", use_bias=False, batch_norm=True
        )
        width = self.projector.output_shape[-1]
        self.predictor = mlp(width, (prediction, width), name="predictor", use_bias=False, batch_norm=True)
        self.target_encoder = self.target_of(encoder, with_statistics=True)
        self.target_projector = self.target_of(self.projector, with_statistics=True)
        self.momentum = momentum
        self.total_steps = total_steps

    def call(self, clips, training=None):
        """Return the predictions from the two views, each `(batch, dim)`, and the views."""
        views = self.two_views(clips, training)
        predictions = tuple(
            self.predictor(
                self.projector(self.encoder(view, training=training), training=training), training=training
            )
            for view in views
        )
        return predictions, views

    def loss_of(self, outputs, training):
        """Return the mean distance of each view's prediction from the other's target; move the target."""
        predictions, views = outputs
        if training:
            self.move_targets(cosine(self.momentum, 1.0, self.step, self.total_steps))
        first, second = (
            ops.stop_gradient(
                self.target_projector(self.target_encoder(view, training=training), training=training)
            )
            for view in views
        )
        self.watch_spread(first)
        return (byol(predictions[0], second) + byol(predictions[1], first)) / 2
