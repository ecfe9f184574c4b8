"""SimCLR: the two views of a clip shall be nearer to each other than to any other view of the batch.

Chen et al. 2020, arXiv:2002.05709; for music CLMR, Spijkervet and Burgoyne 2021, arXiv:2103.09410.
"""

import keras
from keras import ops

from music_zoo.pretraining.contrastive import Pretrainer, mlp
from music_zoo.pretraining.losses import nt_xent


class SimCLR(Pretrainer):
    """Contrastive learning within a batch.

    Args:
        encoder: As of `Pretrainer`.
        views: As of `Pretrainer`.
        projection: Widths of the projection head; None: `(embedding_dim, 64)`, as in CLMR.
        temperature: Of the similarities: 0.5 in CLMR, 0.1 in the multi-view study (arXiv:2404.09177).
        batch_norm: Normalise within the head, as in the multi-view study.
        name: Name of the model.
    """

    def __init__(
        self,
        encoder: keras.Model,
        views=None,
        *,
        projection: tuple[int, ...] | None = None,
        temperature: float = 0.5,
        batch_norm: bool = False,
        name: str = "simclr",
    ):
        super().__init__(encoder, views, name)
        width = encoder.output_shape[-1]
        projection = (width, 64) if projection is None else projection
        self.projector = mlp(width, projection, name="projector", use_bias=False, batch_norm=batch_norm)
        self.temperature = temperature

    def call(self, clips, training=None):
        """Return the projections of the two views, each `(batch, dim)`."""
        return tuple(
            self.projector(self.encoder(view, training=training), training=training)
            for view in self.two_views(clips, training)
        )

    def loss_of(self, projections, training):
        """Return the normalised temperature-scaled cross-entropy."""
        first, second = projections
        self.watch_spread(ops.concatenate([first, second]))
        return nt_xent(first, second, temperature=self.temperature)
