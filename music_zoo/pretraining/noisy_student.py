"""Noisy student: a student learns from labels, and from what a teacher says of music that has none.

Won, Choi and Serra 2021, arXiv:2111.13457: with a student as large as the teacher "knowledge expansion", with
a smaller one "knowledge distillation".
"""

import keras
import numpy as np
from keras import ops

from music_zoo.datasets.batches import Batches
from music_zoo.pretraining.losses import distillation
from music_zoo.task_model import TASKS

HALVES = ("labelled", "unlabelled")


class NoisyStudent(keras.Model):
    """Training of a student on batches of which one half has labels.

    The teacher labels the clean unlabelled half, softly and in inference mode; the student sees both halves,
    augmented, as one batch. The loss is that of the labels plus `weight` times that of the soft labels.

    `fit` takes `x = {"labelled": ..., "unlabelled": ...}`, each `(batch, ...)`, and as `y` the labels of the
    labelled half; `Halves` makes such batches. Validation takes inputs and labels as for any model, and its
    loss is that of the labels; `predict` returns logits. Compile it with an optimizer and metrics, which get
    probabilities, and without a loss.

    The code published with the paper has a "skeptical" loss for the labelled half, which also knows the
    teacher's opinion; what it computes is not published, and here the labels alone count.

    Args:
        student: A model from inputs to logits, such as `classifier.view("features", "logits")`. It is trained
            in place.
        teacher: A functional model from the same inputs to logits for the same classes, of any size. It is
            copied and stays as it is; it may be the student itself.
        augmentation: A layer that changes the student's inputs in training; None: none.
        task: `"multi_label"`: labels of 0 and 1, `(batch, classes)`; `"single_label"`: class indices,
            `(batch,)`.
        weight: Of the soft labels.
        name: Name of the model.

    Raises:
        ValueError: An unknown task, a negative weight, or logits for different numbers of classes.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model,
        augmentation: keras.layers.Layer | None = None,
        task: str = "multi_label",
        weight: float = 1.0,
        name: str = "noisy_student",
    ):
        super().__init__(name=name)
        if task not in TASKS:
            raise ValueError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.")
        if weight < 0:
            raise ValueError(f"`weight` must not be negative, got {weight}.")
        if student.output_shape != teacher.output_shape:
            raise ValueError(
                "Student and teacher must give logits for the same classes, got shapes "
                f"{student.output_shape} and {teacher.output_shape}."
            )
        self.student = student
        self.teacher = _frozen_copy(teacher)
        self.augmentation = augmentation
        self.task = task
        self.weight = weight
        self.labelled_loss = keras.metrics.Mean(name="labelled_loss")
        self.distillation_loss = keras.metrics.Mean(name="distillation_loss")

    def call(self, inputs, training=None):
        """Return the student's logits, `(batch, classes)`; of two halves, a dictionary of theirs."""
        if not isinstance(inputs, dict):
            return self.student(inputs, training=training)
        if set(inputs) != set(HALVES):
            raise ValueError(f"NoisyStudent takes inputs named {HALVES}, got {tuple(inputs)}.")
        both = ops.concatenate([inputs[half] for half in HALVES], axis=0)
        if self.augmentation is not None:
            both = self.augmentation(both, training=training)
        logits = self.student(both, training=training)
        labelled = ops.shape(inputs["labelled"])[0]
        return {"labelled": logits[:labelled], "unlabelled": logits[labelled:]}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of the labels and, where there are two halves, of the teacher's soft labels."""
        if y is None or sample_weight is not None:
            raise ValueError(
                "NoisyStudent needs the labels of the labelled half, and takes no sample weights."
            )
        halves = isinstance(y_pred, dict)
        logits = y_pred["labelled"] if halves else y_pred
        if self.task == "single_label":
            y = ops.one_hot(ops.reshape(y, (-1,)), logits.shape[-1])
        loss = distillation(logits, y, self.task)  # of labels that are 0 or 1: the usual cross-entropy
        self.labelled_loss.update_state(ops.stop_gradient(loss))
        loss = loss + sum(self.losses)  # weight decay and the like, of the student's layers
        if halves:
            soft = ops.stop_gradient(self._probabilities(self.teacher(x["unlabelled"], training=False)))
            distance = distillation(y_pred["unlabelled"], soft, self.task)
            self.distillation_loss.update_state(ops.stop_gradient(distance))
            loss = loss + self.weight * distance
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Return the metrics, after an update with the labels and the student's probabilities."""
        logits = y_pred["labelled"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, self._probabilities(logits), sample_weight)

    def _probabilities(self, logits):
        return keras.activations.get(TASKS[self.task])(ops.cast(logits, "float32"))


class Halves(Batches):
    """Batches for `NoisyStudent`: one of labelled examples beside one of unlabelled examples.

    An epoch is as long as that of the half with more batches. Either half goes through its own examples, and
    when it is through with them, begins its own next epoch, in a new order.

    Args:
        labelled: Batches of inputs and labels, such as `ImageBatches` with targets.
        unlabelled: Batches of inputs of the same shape; if there are labels, they are left out.
        start_epoch: The first epoch; when a run is taken up, the number of epochs it has finished.

    Raises:
        ValueError: Labelled batches without labels.
    """

    def __init__(self, labelled: Batches, unlabelled: Batches, *, start_epoch: int = 0):
        super().__init__(max(len(labelled), len(unlabelled)), 1, start_epoch=start_epoch)
        self.labelled, self.unlabelled = labelled, unlabelled

    def batch(self, epoch: int, index: int):
        """Return a dictionary of both halves' inputs, and the labels."""
        step = epoch * len(self) + index
        labelled, unlabelled = (
            half.batch(*divmod(step, len(half))) for half in (self.labelled, self.unlabelled)
        )
        if not isinstance(labelled, tuple):
            raise ValueError("Expected labelled batches as pairs of inputs and labels, got inputs alone.")
        inputs, labels = labelled
        rest = unlabelled[0] if isinstance(unlabelled, tuple) else unlabelled
        return {"labelled": inputs, "unlabelled": rest}, labels


def _frozen_copy(model: keras.Model) -> keras.Model:
    """Return a copy with variables of its own, none of which is trained."""
    copy = keras.models.clone_model(keras.Model(model.input, model.output, name=model.name))
    for ours, theirs in zip(copy.variables, model.variables, strict=True):
        ours.assign(np.array(ops.convert_to_numpy(theirs)))  # a copy: some backends share memory with NumPy
    copy.trainable = False
    return copy
