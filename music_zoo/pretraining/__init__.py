"""Learning from unlabelled music: one trainer, six methods, on any encoder and backend."""

from music_zoo.pretraining.barlow_twins import BarlowTwins
from music_zoo.pretraining.byol import BYOL
from music_zoo.pretraining.clustering import Clustering
from music_zoo.pretraining.contrastive import Pretrainer, TwoViews
from music_zoo.pretraining.moco import MoCo
from music_zoo.pretraining.simclr import SimCLR
from music_zoo.pretraining.vicreg import VICReg

#: Every method by the name that configurations use.
METHODS: dict[str, type[Pretrainer]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "clustering": Clustering,
}

__all__ = [
    "METHODS",
    "BYOL",
    "BarlowTwins",
    "Clustering",
    "MoCo",
    "Pretrainer",
    "SimCLR",
    "TwoViews",
    "VICReg",
]
