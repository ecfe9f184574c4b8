"""The losses of self-supervised and semi-supervised training as pure functions.

All compute in float32 whatever they are given, return a scalar, and stay finite, with their gradients, where
a network gives zeros. Where one of two networks is not to be trained, stop the gradient of its outputs.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

#: Vectors shorter than this (squared) are not scaled to unit length: zeros stay zeros.
SQUARED_NORM_FLOOR = 1e-12
#: Added to variances, as in PyTorch's batch normalisation and in VICReg.
VARIANCE_EPSILON = 1e-5


def unit_length(vectors: Any) -> Any:
    """Return vectors divided by their length over the last axis, `(..., dim)`; zeros stay zeros.

    `keras.ops.normalize` does the same, but its gradient at zero is NaN.
    """
    (vectors,) = _float32(vectors)
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squared, SQUARED_NORM_FLOOR))


def nt_xent(*views: Any, temperature: float) -> Any:
    """Normalised temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709).

    Each view of a clip is to be told, by cosine similarity, from all other views of the batch: with two views
    of N clips, one positive and 2(N - 1) negatives. The mean is over the 2N views. With more than two views
    it is the mean over all ordered pairs of views of a clip; other positives stay in the denominator.

    Args:
        *views: Two or more, each `(batch, dim)`, of the same clips in the same order.
        temperature: By which similarities are divided.

    Raises:
        ValueError: Fewer than two views or two clips, or views of different shapes.
    """
    views = _batches(*views)
    vectors = unit_length(ops.concatenate(views, axis=0))
    similarity = ops.matmul(vectors, ops.transpose(vectors)) / temperature
    number = ops.arange(ops.shape(vectors)[0])
    clip = number % ops.shape(views[0])[0]
    is_self = number[:, None] == number[None, :]
    is_positive = ops.logical_and(clip[:, None] == clip[None, :], ops.logical_not(is_self))
    all_others = ops.logsumexp(ops.where(is_self, -1e9, similarity), axis=-1)
    positives = ops.sum(ops.where(is_positive, similarity, 0.0), axis=-1) / (len(views) - 1)
    return ops.mean(all_others - positives)


def info_nce_logits(query: Any, key: Any, queue: Any, temperature: float) -> Any:
    """Return the similarity of each query with its key (index 0) and the queue: `(batch, 1 + length)`.

    Args:
        query: `(batch, dim)`; scaled to unit length here.
        key: `(batch, dim)` of the same clips; scaled to unit length here.
        queue: Earlier keys, `(length, dim)`, of unit length already.
        temperature: By which similarities are divided.

    Raises:
        ValueError: Query and key of different shapes.
    """
    query, key = (unit_length(vectors) for vectors in _batches(query, key, least=1))
    (queue,) = _float32(queue)
    positive = ops.sum(query * key, axis=-1, keepdims=True)
    negative = ops.matmul(query, ops.transpose(queue))
    return ops.concatenate([positive, negative], axis=-1) / temperature


def info_nce(logits: Any) -> Any:
    """Cross-entropy of finding each query's key among a queue of others (MoCo, He et al., arXiv:1911.05722).

    Args:
        logits: Of `info_nce_logits`, `(batch, 1 + length)`; no gradient should reach its key or queue.
    """
    return ops.mean(ops.logsumexp(logits, axis=-1) - logits[:, 0])


def byol(prediction: Any, target: Any) -> Any:
    """Mean squared distance of unit vectors, 2 - 2 cos (BYOL, Grill et al. 2020, arXiv:2006.07733).

    One direction; the method averages (the paper adds) those from either view to the other. The code of the
    multi-view study (arXiv:2404.09177) sums the product over the batch in place of the features, which looks
    like a slip and is not followed here.

    Args:
        prediction: Of the online network from one view, `(batch, dim)`.
        target: Of the target network from the other view, `(batch, dim)`. No gradient should reach it.

    Raises:
        ValueError: Different shapes.
    """
    prediction, target = (unit_length(vectors) for vectors in _batches(prediction, target, least=1))
    return ops.mean(2 - 2 * ops.sum(prediction * target, axis=-1))


def barlow_twins(first: Any, second: Any, redundancy_weight: float = 1.0) -> Any:
    """Distance of the views' cross-correlation from the identity (Barlow Twins, arXiv:2103.03230).

    In the form of the multi-view study (arXiv:2404.09177): the means over the matrix's elements on the
    diagonal, and off it, are added. The paper sums them, with a weight of 0.005 off the diagonal; for `dim`
    features that is, up to the scale, a weight here of `0.005 * (dim - 1)`. As in the study, features are
    scaled by the biased variance and products divided by `batch - 1`.

    Args:
        first: `(batch, dim)`.
        second: `(batch, dim)` of the same clips.
        redundancy_weight: Of the elements off the diagonal.

    Raises:
        ValueError: Fewer than two clips, or different shapes.
    """
    correlation = _correlation(*(_standardised(view) for view in _batches(first, second)))
    on_diagonal = ops.mean(ops.square(1 - ops.diagonal(correlation)))
    return on_diagonal + redundancy_weight * _off_diagonal(correlation)


def vicreg(
    first: Any,
    second: Any,
    invariance_weight: float = 1.0,
    variance_weight: float = 1.0,
    covariance_weight: float = 1.0,
) -> Any:
    """Variance, invariance and covariance regularisation (VICReg, Bardes et al. 2022, arXiv:2105.04906).

    In the form of the multi-view study (arXiv:2404.09177, there "feature statistics"): the mean squared
    difference of the views; by how much standard deviations fall short of 1; and squared correlations of
    different features. All three are means over elements and views. The paper sums
    squared differences over features, takes covariances in place of correlations and divides their sum by
    `dim`, adds up both views, and weights the terms 25, 25 and 1: its weights do not carry over.

    Args:
        first: `(batch, dim)`.
        second: `(batch, dim)` of the same clips.
        invariance_weight: Of the difference.
        variance_weight: Of the standard deviations.
        covariance_weight: Of the correlations.

    Raises:
        ValueError: Fewer than two clips, or different shapes.
    """
    views = _batches(first, second)
    difference = ops.mean(ops.square(views[0] - views[1]))
    lack = redundancy = 0.0
    for view in views:
        clips = ops.cast(ops.shape(view)[0], "float32")
        variance = ops.var(view, axis=0) * clips / (clips - 1)  # unbiased
        lack += ops.mean(ops.relu(1 - ops.sqrt(variance + VARIANCE_EPSILON))) / len(views)
        standardised = _standardised(view)
        redundancy += _off_diagonal(_correlation(standardised, standardised)) / len(views)
    return invariance_weight * difference + variance_weight * lack + covariance_weight * redundancy


def clustering(
    student: Sequence[Any],
    teacher: Sequence[Any],
    centre: Any,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: Any,
) -> Any:
    """Cross-entropy of assignments to prototypes (DINO, Caron et al. 2021, arXiv:2104.14294).

    The teacher's assignments are centred and sharpened. The mean is over all pairs of a teacher's and a
    student's view that differ, and over clips.

    Args:
        student: Logits of each view, `(batch, prototypes)`; may hold more views than the teacher's, after
            those that both see.
        teacher: The same from the teacher. No gradient should reach them.
        centre: Running mean of the teacher's logits, `(prototypes,)`.
        student_temperature: By which the student's logits are divided.
        teacher_temperature: By which the teacher's are; lower, so that its assignments are sharper.

    Raises:
        ValueError: No two different views, or views of different shapes.
    """
    if not len(teacher) or len(student) < 2:
        raise ValueError(
            "Expected at least 2 views from the student and 1 from the teacher, got "
            f"{len(student)} and {len(teacher)}."
        )
    logits = _batches(*student, *teacher, least=1)
    (centre,) = _float32(centre)
    students = [ops.log_softmax(view / student_temperature) for view in logits[: len(student)]]
    teachers = [ops.softmax((view - centre) / teacher_temperature) for view in logits[len(student) :]]
    pairs = [(s, t) for i, t in enumerate(teachers) for j, s in enumerate(students) if i != j]
    return sum(ops.mean(-ops.sum(t * s, axis=-1)) for s, t in pairs) / len(pairs)


def update_centre(centre: Any, teacher_outputs: Sequence[Any], momentum: float = 0.9) -> Any:
    """Return the centre for the next step of `clustering`, of the shape of this one's.

    Args:
        centre: `(prototypes,)`.
        teacher_outputs: The teacher's logits of each view, `(batch, prototypes)`.
        momentum: Share of itself that the centre keeps.
    """
    (centre,) = _float32(centre)
    outputs = ops.concatenate(_batches(*teacher_outputs, least=1), axis=0)
    return momentum * centre + (1 - momentum) * ops.mean(outputs, axis=0)


def distillation(student_logits: Any, teacher_probabilities: Any, task: str = "multi_label") -> Any:
    """Cross-entropy of a student to the soft labels of a teacher (Hinton et al. 2015, arXiv:1503.02531).

    Args:
        student_logits: `(batch, classes)`.
        teacher_probabilities: `(batch, classes)`, or labels as 0 and 1. No gradient should reach them.
        task: `"multi_label"`: binary cross-entropy, averaged over classes; `"single_label"`: categorical.

    Raises:
        ValueError: Different shapes or another task.
    """
    logits, probabilities = _batches(student_logits, teacher_probabilities, least=1)
    if task == "multi_label":
        return ops.mean(ops.binary_crossentropy(probabilities, logits, from_logits=True))
    if task == "single_label":
        return ops.mean(-ops.sum(probabilities * ops.log_softmax(logits), axis=-1))
    raise ValueError(f"`task` must be 'single_label' or 'multi_label', got {task!r}.")


def _float32(*arrays: Any) -> list[Any]:
    return [ops.cast(ops.convert_to_tensor(array), "float32") for array in arrays]


def _batches(*views: Any, least: int = 2) -> list[Any]:
    """Return outputs for the same clips as float32, or say why they cannot be used."""
    shapes = [tuple(view.shape) for view in views]
    if len(views) < 2 and least > 1:
        raise ValueError(f"Expected at least 2 views of each clip, got {len(views)}.")
    if any(len(shape) != 2 for shape in shapes) or any(
        a != b for shape in shapes for a, b in zip(shape, shapes[0], strict=True) if None not in (a, b)
    ):
        raise ValueError(f"Expected tensors (batch, dim) of the same shape, got {shapes}.")
    if any(shape[0] is not None and shape[0] < least for shape in shapes):
        raise ValueError(
            f"Expected at least {least} clips in a batch, got {shapes[0][0]}: this loss compares clips of "
            "a batch with each other. Raise the batch size, or drop the last, smaller batch."
        )
    return _float32(*views)


def _standardised(view: Any) -> Any:
    """Features with mean 0 and variance 1 over the batch."""
    mean, variance = ops.moments(view, axes=0)
    return (view - mean) * ops.rsqrt(variance + VARIANCE_EPSILON)


def _correlation(first: Any, second: Any) -> Any:
    clips = ops.cast(ops.shape(first)[0], "float32")
    return ops.matmul(ops.transpose(first), second) / (clips - 1)


def _off_diagonal(matrix: Any) -> Any:
    """Mean square of the elements off the diagonal."""
    size = matrix.shape[0]
    off = ops.square(matrix) * (1 - ops.eye(size))
    return ops.sum(off) / max(size * (size - 1), 1)
