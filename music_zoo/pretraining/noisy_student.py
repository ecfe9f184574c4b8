"""Noisy student: a student learns from labels, and from what a teacher says of music that has none.

Won, Choi and Serra 2021, arXiv:2111.13457: with a student as large as the teacher "knowledge expansion", with
a smaller one "knowledge distillation".
"""

import keras
import numpy as np
from keras import ops

from music_zoo.pretraining.losses import distillation
from music_zoo.task_model import TASKS


class NoisyStudent(keras.Model):
    """Training of a student on batches of which one half has labels.

    The teacher labels the clean unlabelled half, softly, in inference mode; the student sees both halves
    augmented, as one batch. The loss is that of the labels plus `weight` times the distance from the teacher.

    `fit` takes `x = {"labelled": ..., "unlabelled": ...}`, each `(batch, ...)`, and as `y` the labels of the
    labelled half (such batches come from `Halves`). For validation give `evaluate`, or `fit` as
    `validation_data`, inputs and labels as to any model: the loss is then that of the labels. `predict`
    returns logits. Metrics get probabilities. Compile it with an optimizer and metrics, without a loss.

    The published code has, for the labelled half, a "skeptical" loss that knows the teacher's opinion, too;
    the paper and the code leave open how it is defined, and it is not followed here.

    Args:
        student: A model from inputs to logits, such as `classifier.view("features", "logits")`. Trained in
            place.
        teacher: The same, of any size. It is copied and stays as it is; the teacher may be the student.
        augmentation: A layer that changes the inputs of the student in training; None: none.
        task: `"multi_label"`: labels are 0 and 1, `(batch, classes)`; `"single_label"`: class indices,
            `(batch,)`.
        weight: Of the distance from the teacher.
        name: Name of the model.

    Raises:
        ValueError: An unknown task, a negative weight, or a student and a teacher that do not take the same
            inputs or tell the same classes.
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
        for what, theirs, ours in (
            ("inputs", teacher.input_shape, student.input_shape),
            ("logits", teacher.output_shape, student.output_shape),
        ):
            if theirs != ours:
                raise ValueError(
                    f"Teacher and student must have the same {what}, got shapes {theirs} and {ours}."
                )
        self.student = student
        self.teacher = frozen_copy(teacher)
        self.augmentation = augmentation
        self.task = task
        self.weight = weight
        self.labelled_loss = keras.metrics.Mean(name="labelled_loss")
        self.distillation_loss = keras.metrics.Mean(name="distillation_loss")

    def call(self, inputs, training=None):
        """Return the student's logits: of each half, or of inputs that come without halves."""
        if not isinstance(inputs, dict):
            return self.student(inputs, training=training)
        both = ops.concatenate([inputs["labelled"], inputs["unlabelled"]], axis=0)
        if self.augmentation is not None:
            both = self.augmentation(both, training=training)
        logits = self.student(both, training=training)
        labelled = ops.shape(inputs["labelled"])[0]
        return {"labelled": logits[:labelled], "unlabelled": logits[labelled:]}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of the labels and, of halves, that of the teacher's soft labels."""
        if sample_weight is not None:
            raise ValueError("NoisyStudent takes no sample weights.")
        halves = isinstance(x, dict)
        logits = y_pred["labelled"] if halves else y_pred
        if self.task == "single_label":
            y = ops.one_hot(ops.reshape(y, (-1,)), logits.shape[-1])
        loss = distillation(logits, y, self.task)  # to labels of 0 and 1: the usual cross-entropy
        self.labelled_loss.update_state(ops.stop_gradient(loss))
        if halves:
            soft_labels = self.probabilities(self.teacher(x["unlabelled"], training=False))
            distance = distillation(y_pred["unlabelled"], ops.stop_gradient(soft_labels), self.task)
            self.distillation_loss.update_state(ops.stop_gradient(distance))
            loss = loss + self.weight * distance
        return loss + sum(self.losses)  # weight decay and the like, of the student's layers

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Return the metrics, which get the probabilities of what has labels."""
        logits = y_pred["labelled"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, self.probabilities(logits), sample_weight)

    def probabilities(self, logits):
        """Return the task's activation of logits, in float32."""
        return keras.activations.get(TASKS[self.task])(ops.cast(logits, "float32"))


class Halves(keras.utils.PyDataset):
    """Batches for `NoisyStudent`: half of each labelled, half unlabelled.

    An epoch goes once through the longer of the two, in an order drawn anew for each epoch; the shorter one
    starts again as often as needed, in a new order each time. What is left of a batch at the end is dropped.

    Args:
        labelled: Inputs and their labels, each `(examples, ...)`.
        unlabelled: Inputs, `(examples, ...)`.
        batch_size: Even; half of it from either.
        seed: Of the orders.

    Raises:
        ValueError: An odd batch size, fewer examples than half a batch, labels for other than the examples,
            or inputs of different shapes.
    """
