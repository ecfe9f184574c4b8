"""Clustering: assign one view to prototypes as a slowly moving copy of the network assigns the other.

DINO, Caron et al. 2021, arXiv:2104.14294: the copy's assignments are sharpened and centred so that they do
not collapse. Settings of the multi-view study (arXiv:2404.09177).
"""

import keras
from keras import ops

from music_zoo.pretraining.contrastive import Pretrainer, mlp
from music_zoo.pretraining.losses import clustering, update_centre
from music_zoo.pretraining.schedules import cosine


class Clustering(Pretrainer):
    """Self-distillation over prototypes.

    Args:
        encoder: As of `Pretrainer`.
        views: As of `Pretrainer`.
        projection: Widths of the head, the last of which counts the prototypes; (1024, 1024, 256, 4096) in
            the multi-view study.
        student_temperature: Of the assignments that are trained.
        teacher_temperatures: Of the target assignments, at the beginning and after `warmup_steps`, between
            them on a cosine.
        warmup_steps: Steps in which the teacher's temperature rises: 10 epochs in the study.
        total_steps: Steps until the momentum is 1.
        momentum: Share of itself that the teacher keeps in a step, at the beginning.
        centre_momentum: Share of itself that the centre keeps in a step.
        name: Name of the model.
    """

    def __init__(
        self,
        encoder: keras.Model,
        views=None,
        *,
        total_steps: int,
        warmup_steps: int,
        projection: tuple[int, ...] = (1024, 1024, 256, 4096),
        student_temperature: float = 0.1,
        teacher_temperatures: tuple[float, float] = (0.02, 0.04),
        momentum: float = 0.996,
        centre_momentum: float = 0.9,
        name: str = "clustering",
    ):
        super().__init__(encoder, views, name)
        self.projector = mlp(
            encoder.output_shape[-1], projection, name="projector", use_bias=False, batch_norm=True
        )
        self.teacher_encoder = self.target_of(encoder)
        self.teacher_projector = self.target_of(self.projector)
        self.centre = self.add_weight(
            shape=(self.projector.output_shape[-1],),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            name="centre",
        )
        self.student_temperature = student_temperature
        self.teacher_temperatures = teacher_temperatures
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.momentum = momentum
        self.centre_momentum = centre_momentum

    def call(self, clips, training=None):
        """Return the student's logits for the two views, each `(batch, prototypes)`, and the views."""
        views = self.two_views(clips, training)
        logits = tuple(
            self.projector(self.encoder(view, training=training), training=training) for view in views
        )
        return logits, views

    def loss_of(self, outputs, training):
        """Return the cross-entropy of the student's assignments; move teacher and centre."""
        students, views = outputs
        temperature = cosine(*self.teacher_temperatures, self.step, self.warmup_steps)
        if training:
            self.move_targets(cosine(self.momentum, 1.0, self.step, self.total_steps))
        teachers = tuple(
            ops.stop_gradient(
                self.teacher_projector(self.teacher_encoder(view, training=training), training=training)
            )
            for view in views
        )
        centre = ops.copy(self.centre)
        loss = clustering(
            students,
            teachers,
            centre,
            student_temperature=self.student_temperature,
            teacher_temperature=temperature,
        )
        self.watch_spread(students[0])
        if training:
            self.centre.assign(update_centre(centre, teachers, momentum=self.centre_momentum))
        return loss
