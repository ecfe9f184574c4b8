"""A rehearsal of a recipe: every step of it, in seconds."""

from typing import Any

from music_zoo.pretraining.settings import named_config
from music_zoo.training.recipe import Recipe

#: Of each label in a split, at the most.
RECORDINGS = 4
#: Recordings in a batch; in pretraining twice as many, as MoCo takes no fewer of a network with batch
#: normalisation.
BATCH = 4

#: The smallest network of each architecture.
_NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet": {"stem_width": 2, "widths": [4], "blocks": [1]},
    "Swin": {"patch_size": 16, "embed_dim": 8, "depths": [1, 1], "heads": [1, 2], "window": 2},
    "MultiViewResNet": {"width": 2, "blocks": [1, 1], "heads": 2, "embedding_dim": 8},
    "MusicTaggingTransformer": {"conv_width": 2, "embed_dim": 8, "depth": 1, "heads": 2},
    "SpecTNT": {
        "spectral_dim": 4,
        "temporal_dim": 8,
        "depth": 1,
        "spectral_heads": 1,
        "temporal_heads": 2,
    },
}


def smoke(recipe: Recipe) -> Recipe:
    """Return a recipe with the same steps for a tiny network, one epoch and small batches."""
    architecture = named_config(recipe.encoder)["backbone"]["architecture"]
    options = recipe.encoder_options | _NETWORKS.get(architecture, {})
    if architecture == "SampleCNN" and "widths" in options:
        options["widths"] = [4] * len(options["widths"])  # as deep, as its window needs
    if options.get("stem"):
        options["stem"] = [4] * 4  # as many as make patches of 16
    short = {"epochs": 1, "batch_size": BATCH, "warmup_epochs": 0}
    update: dict[str, Any] = {
        "encoder_options": options,
        "min_tag_tracks": 1,
        "members": min(recipe.members, 2),
    }
    update["fit"] = [
        fit.model_copy(
            update={"labels": 0.5 if fit.unlabelled else float(fit.labels > 0)}
            | ({} if fit.frozen else short)
            | ({"crop": 16} if fit.crop else {})
        )
        for fit in recipe.fit
    ]
    if recipe.pretrain:
        method = dict(recipe.pretrain.method_options)
        method |= {"projection": [8, 8]} if "projection" in method else {}
        method |= {"queue_length": 4 * BATCH} if "queue_length" in method else {}
        own = {"encoder_options": options, "method_options": method, "knn_every": 0, "batch_size": 2 * BATCH}
        update["pretrain"] = recipe.pretrain.model_copy(update=short | own)
    if recipe.distill:
        update["distill"] = recipe.distill.model_copy(update=short | {"student_options": options})
    return recipe.model_copy(update=update)
