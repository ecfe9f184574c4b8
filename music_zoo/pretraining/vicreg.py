"""VICReg: two views alike, every output of its own spread, no two outputs alike.

Bardes et al. 2022, arXiv:2105.04906, in the form of the multi-view study (arXiv:2404.09177), which calls it
feature statistics.
"""

import keras

from music_zoo.pretraining.barlow_twins import BarlowTwins
from music_zoo.pretraining.losses import vicreg


class VICReg(BarlowTwins):
    """Variance, invariance and covariance regularisation.

    Args:
        encoder: As of `Pretrainer`.
        views: As of `Pretrainer`.
        projection: Widths of the projection head; (1024, 1024, 2048) in the multi-view study.
        invariance_weight: Weight of the distance of the two views.
        variance_weight: Weight of the spread that outputs lack.
        covariance_weight: Weight of the correlations between different outputs.
        name: Name of the model.
    """

    def __init__(
        self,
        encoder: keras.Model,
        views=None,
        *,
        projection: tuple[int, ...] = (1024, 1024, 2048),
        invariance_weight: float = 1.0,
        variance_weight: float = 1.0,
        covariance_weight: float = 1.0,
        name: str = "vicreg",
    ):
        super().__init__(encoder, views, projection=projection, name=name)
        self.weights_of_terms = {
            "invariance_weight": invariance_weight,
            "variance_weight": variance_weight,
            "covariance_weight": covariance_weight,
        }

    def loss_of(self, projections, training):
        """Return the weighted sum of the three terms."""
        self.watch_spread(projections[0])
        return vicreg(*projections, **self.weights_of_terms)
