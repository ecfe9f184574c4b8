"""A deep ensemble: classifiers on one front end as one model, whose posteriors are averaged."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from music_zoo.audio_model import AudioModel
from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.calibrators import calibration, calibrator_config, calibrator_from_config
from music_zoo.classifier import Classifier
from music_zoo.task_model import TASKS

#: Where the calibrator may act: on the logits of each member, or on the mean of the members' posteriors.
CALIBRATE_ON = ("members", "mean")

#: The settings that members have in common.
SHARED = ("front_end", "labels", "task", "window")


@keras.saving.register_keras_serializable(package="music_zoo")
class Ensemble(AudioModel):
    """Several trained classifiers as one: the mean of their posteriors, calibrated (arXiv:1612.01474).

    Like `Classifier`, a functional model from windows of waveform `(batch, window)` to probabilities
    `(batch, num_classes)`, with the same methods. The front end, the first member's, is computed once. Of a
    `view`, `"logits"` are those of each member, `(batch, members, num_classes)`, and `"embedding"` is the
    members' embeddings, one after the other, `(batch, sum of embedding_dim)`.

    One calibrator acts for all members, in one of two places. `calibrate_on="members"`: each member's logits
    are calibrated, and the mean of the posteriors that follow is the result. `"mean"`: the posteriors are
    averaged first, and the logarithm of their mean (multi-label: its logit) is calibrated. Without
    calibration, both are the same. The members' own calibrators do not act in the ensemble, whose calibrator
    is fresh, but they are kept with the members.

    The members share their weights with the ensemble: to `fit` one changes the ensemble's output. To `fit`
    the ensemble trains all members together, on the loss of their mean.

    Args:
        members: Classifiers with equal front ends, labels, task and window.
        calibrate_on: `"members"` or `"mean"`.
        calibrator: One of `music_zoo.calibration.CALIBRATORS`; a temperature of 1 if None.
        name: Name of the model.

    Attributes:
        members: Tuple of the classifiers.
        front_end, calibrator, labels, task, sample_rate, window, window_samples: As of a `Classifier`.

    Raises:
        ValueError: No members, members that differ in what they must share, or a front end that is trained
            with its network, so that no two members have the same.
    """

    kind = "ensemble"

    def __init__(
        self,
        members: Sequence[Classifier],
        *,
        calibrate_on: str = "members",
        calibrator: Calibrator | None = None,
        name: str = "ensemble",
    ):
        members = tuple(members)
        _check_members(members)
        if calibrate_on not in CALIBRATE_ON:
            raise ValueError(f"`calibrate_on` must be 'members' or 'mean', got {calibrate_on!r}.")
        first = members[0]
        networks = [_network(member, f"member{number}") for number, member in enumerate(members)]
        shapes = [member.backbone.input_shape[1:] for member in members]
        calibrate = calibration(calibrator, first.task, len(first.labels))
        activation = keras.activations.get(TASKS[first.task])

        def network(features) -> dict:
            outputs = [member(features) for member in networks]
            logits = ops.stack([output["logits"] for output in outputs], axis=1)
            if calibrate_on == "members":
                probabilities = ops.mean(activation(calibrate(logits)), axis=1)
            else:
                probabilities = activation(calibrate(_pool(logits, first.task)))
            return {
                "embedding": ops.concatenate([output["embedding"] for output in outputs], axis=-1),
                "logits": logits,
                "probabilities": probabilities,
            }

        super().__init__(
            first.front_end,
            network,
            # One member that needs features of some length decides for all.
            [max(sizes, key=lambda size: size or 0) for sizes in zip(*shapes, strict=True)],
            calibration=calibrate,
            labels=first.labels,
            task=first.task,
            window=first.window,
            xla_on_tensorflow=all(member.xla_on_tensorflow for member in members),
            name=name,
        )
        self.calibrate_on = calibrate_on
        vars(self)["members"] = members  # past Keras' attribute tracking, which would list their layers again

    @property
    def architecture(self) -> str:
        """How many members have which backbone, such as `"5 x ResNet"`."""
        counts = Counter(member.architecture for member in self.members)
        return ", ".join(f"{count} x {name}" for name, count in counts.items())

    @property
    def _parts(self) -> dict[str, keras.layers.Layer]:
        members = {
            f"member{number}.{name}": part
            for number, member in enumerate(self.members)
            for name, part in member._parts.items()
            if name != "front_end"
        }
        return {"front_end": self.front_end, **members, "calibrator": self.calibrator}

    def with_labels(self, labels: Sequence[str], task: str | None = None) -> "Ensemble":
        """Return an ensemble on the same backbones, each with a fresh head, and with a fresh calibrator.

        Args:
            labels: Names of the classes.
            task: That of this ensemble if None.

        Raises:
            ValueError: Labels or a task that a classifier cannot have.
        """
        members = [member.with_labels(labels, task) for member in self.members]
        return Ensemble(members, calibrate_on=self.calibrate_on, name=self.name)

    def calibration_logits(self, logits: np.ndarray) -> np.ndarray:
        """Return what the calibrator sees of logits `(..., members, classes)`, float32.

        With `calibrate_on="members"` these logits, of which each member's count as those of a window of its
        own; with `"mean"` the logarithm (multi-label: the logit) of the mean posterior, `(..., classes)`.
        """
        logits = np.asarray(logits, np.float32)
        return logits if self.calibrate_on == "members" else ops.convert_to_numpy(_pool(logits, self.task))

    def probabilities_of(self, logits: np.ndarray, calibrated: bool = True) -> np.ndarray:
        """Return the probabilities, `(..., classes)` float32, that belong to logits.

        Args:
            logits: As `view(..., "logits")` gives them, `(..., members, classes)`.
            calibrated: False to leave out the calibrator.
        """
        probabilities = super().probabilities_of(logits, calibrated)
        return probabilities.mean(axis=-2) if self.calibrate_on == "members" else probabilities

    def get_config(self) -> dict:
        """Return a description in plain JSON from which `from_config` builds the same network."""
        members = [member.get_config() for member in self.members]
        return {
            **{key: members[0][key] for key in SHARED},
            "members": [
                {key: value for key, value in member.items() if key not in SHARED} for member in members
            ],
            "calibrate_on": self.calibrate_on,
            **calibrator_config(self.calibrator),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping, custom_objects=None) -> "Ensemble":
        """Build an untrained ensemble from what `get_config` returned.

        Raises:
            ValueError: A member that `Classifier.from_config` refuses.
        """
        config = dict(config)
        shared = {key: config.pop(key) for key in SHARED}
        members = [Classifier.from_config(shared | member) for member in config.pop("members")]
        return cls(members, calibrator=calibrator_from_config(config.pop("calibrator", None)), **config)


def _check_members(members: tuple[Classifier, ...]) -> None:
    if not members:
        raise ValueError("An ensemble needs members, got none.")
    for number, member in enumerate(members):
        if not isinstance(member, Classifier):
            raise ValueError(f"Members must be classifiers; member {number} is a {type(member).__name__}.")
        if member.front_end.weights:
            raise ValueError(
                f"Members share one front end; that of member {number} is trained with its network "
                f"({', '.join(weight.path for weight in member.front_end.weights)}) and cannot be shared."
            )
    first = members[0].get_config()
    for number, member in enumerate(members):
        config = member.get_config()
        for key in SHARED:
            if config[key] != first[key]:
                raise ValueError(
                    f"Members must agree in {', '.join(SHARED)}; {key} of member 0 is {first[key]}, that of "
                    f"member {number} is {config[key]}."
                )


def _network(member: Classifier, name: str) -> keras.Model:
    """Features to embedding and logits: a member as one layer, so that names of layers do not collide."""
    views = {outputs: member.view("features", outputs) for outputs in ("embedding", "logits")}
    inputs = views["logits"].input
    return keras.Model(inputs, {outputs: view.output for outputs, view in views.items()}, name=name)


def _pool(logits, task: str):
    """Return logits whose activation is the mean of the members' posteriors, without leaving logarithms."""

    def log_mean(log_posterior):
        return ops.logsumexp(log_posterior, axis=-2) - math.log(logits.shape[-2])

    if task == "single_label":
        return log_mean(ops.log_softmax(logits, axis=-1))
    return log_mean(ops.log_sigmoid(logits)) - log_mean(ops.log_sigmoid(-logits))
