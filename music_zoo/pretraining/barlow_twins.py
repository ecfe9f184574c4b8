"""Barlow Twins: the outputs of two views shall correlate, each output with itself and with no other.

Zbontar et al. 2021, arXiv:2103.03230, in the form of the multi-view study (arXiv:2404.09177).
"""

import keras

from music_zoo.pretraining.contrastive import Pretrainer, mlp
from music_zoo.pretraining.losses import barlow_twins


class BarlowTwins(Pretrainer):
    """Redundancy reduction.

    Args:
        encoder: As of `Pretrainer`.
        views: As of `Pretrainer`.
        projection: Widths of the projection head; (1024, 1024, 2048) in the multi-view study.
        redundancy_weight: Weight of the correlations between different outputs.
        name: Name of the model.
    """

    def __init__(
        self,
        encoder: keras.Model,
        views=None,
        *,
        projection: tuple[int, ...] = (1024, 1024, 2048),
        redundancy_weight: float = 1.0,
        name: str = "barlow_twins",
    ):
        super().__init__(encoder, views, name)
        self.projector = mlp(
            encoder.output_shape[-1], projection, name="projector", use_bias=False, batch_norm=True
        )
        self.redundancy_weight = redundancy_weight

    def call(self, clips, training=None):
        """Return the projections of the two views, each `(batch, dim)`."""
        return tuple(
            self.projector(self.encoder(view, training=training), training=training)
            for view in self.two_views(clips, training)
        )

    def loss_of(self, projections, training):
        """Return the distance of the correlation matrix from the identity."""
        self.watch_spread(projections[0])
        return barlow_twins(*projections, redundancy_weight=self.redundancy_weight)
