import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit, log_softmax, softmax
from small import small_classifier

from music_zoo.datasets.batches import ImageBatches
from music_zoo.pretraining.noisy_student import Halves, NoisyStudent

pytestmark = pytest.mark.keras

BANDS, FRAMES, CLASSES = 4, 5, 3


def network(width: int = 8, *, seed: int = 0, classes: int = CLASSES, decay: float = 0.0) -> keras.Model:
    """Dense layers with batch normalisation between them, whose statistics are not those of a fresh one."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((BANDS, FRAMES))
    regularizer = keras.regularizers.L2(decay) if decay else None
    x = keras.layers.Dense(width, use_bias=False, kernel_regularizer=regularizer)(
        keras.layers.Flatten()(inputs)
    )
    norm = keras.layers.BatchNormalization(momentum=0.5)
    x = keras.layers.ReLU()(norm(x))
    model = keras.Model(inputs, keras.layers.Dense(classes)(x))
    norm.moving_mean.assign(np.linspace(-1, 1, width))
    return model


class Shift(keras.layers.Layer):
    """An augmentation without chance."""

    def call(self, inputs, training=None):
        return inputs + 0.5 if training else inputs


def inputs(examples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(examples, BANDS, FRAMES)).astype("float32")


def labels(examples: int, task: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if task == "single_label":
        return rng.integers(CLASSES, size=examples)
    return (rng.uniform(size=(examples, CLASSES)) < 0.4).astype("float32")


def batch(task: str = "multi_label", examples: int = 6):
    return {"labelled": inputs(examples), "unlabelled": inputs(examples, seed=1)}, labels(examples, task)


def weights(model: keras.Model) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(variable)) for variable in model.variables]


def said_in_training(student: keras.Model, both: np.ndarray) -> np.ndarray:
    return ops.convert_to_numpy(student(both, training=True)).astype("float64")


def cross_entropy(logits: np.ndarray, targets: np.ndarray, task: str) -> float:
    if task == "single_label":
        return -(targets * log_softmax(logits, axis=-1)).sum(axis=-1).mean()
    p = expit(logits)
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()


@pytest.mark.parametrize("task", ["multi_label", "single_label"])
def test_the_loss_is_that_of_labels_and_soft_labels(task):
    student, teacher = network(seed=1), network(12, seed=2)
    x, y = batch(task)
    teacher_logits = ops.convert_to_numpy(teacher(x["unlabelled"], training=False)).astype("float64")
    soft = expit(teacher_logits) if task == "multi_label" else softmax(teacher_logits, axis=-1)
    hard = y if task == "multi_label" else np.eye(CLASSES)[y]
    logits = said_in_training(student, np.concatenate([x["labelled"], x["unlabelled"]]) + 0.5)
    labelled, distance = cross_entropy(logits[:6], hard, task), cross_entropy(logits[6:], soft, task)

    model = NoisyStudent(student, teacher, Shift(), task, weight=0.7)
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(x, y, batch_size=6, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(labelled + 0.7 * distance, rel=1e-5)
    assert history["labelled_loss"][0] == pytest.approx(labelled, rel=1e-5)
    assert history["distillation_loss"][0] == pytest.approx(distance, rel=1e-5)


def test_weight_decay_of_the_students_layers_counts_once():
    x, y = batch()
    with_decay, without = (network(seed=1, decay=decay) for decay in (0.1, 0.0))
    totals = []
    for student in (with_decay, without):
        model = NoisyStudent(student, with_decay)
        model.compile(keras.optimizers.SGD(0.0))
        totals.append(model.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)["loss"])
    expected = 0.1 * np.square(ops.convert_to_numpy(with_decay.layers[2].kernel)).sum()
    assert totals[0] - totals[1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("own_teacher", [False, True], ids=["another teacher", "the student is the teacher"])
def test_the_teacher_stays_as_it_is(own_teacher):
    student, teacher = network(seed=1), network(12, seed=2)
    teacher = student if own_teacher else teacher
    teacher.compile("sgd", "mse")  # as one that was trained just before
    before, trainable = weights(teacher), len(student.trainable_variables)
    model = NoisyStudent(student, teacher)
    model.compile(keras.optimizers.SGD(0.1))
    assert len(model.trainable_variables) == trainable
    x, y = batch(examples=12)
    started = weights(student)
    model.fit(x, y, batch_size=6, epochs=2, verbose=0)
    for old, now in zip(before, weights(model.teacher), strict=True):
        np.testing.assert_array_equal(old, now)
    if not own_teacher:
        for old, now in zip(before, weights(teacher), strict=True):
            np.testing.assert_array_equal(old, now)
        assert all(variable.trainable for variable in teacher.layers[2].variables)
    for old, now in zip(started, weights(student), strict=True):
        assert np.isfinite(now).all() and not np.array_equal(old, now)


def test_the_teacher_is_asked_about_clean_inputs_and_the_student_sees_others(monkeypatch):
    student, teacher = network(seed=1), network(12, seed=2)
    model = NoisyStudent(student, teacher, Shift())
    x, y = batch()
    model(x)  # which builds it
    seen = {}
    for name, part in {"student": model.student, "teacher": model.teacher}.items():
        call = part.call

        def watched(inputs, training=None, mask=None, name=name, call=call):
            seen[name] = ops.convert_to_numpy(inputs), training
            return call(inputs, training=training)

        monkeypatch.setattr(part, "call", watched)
    predicted = model(x, training=True)
    model.compute_loss(x, y, predicted)
    (student_saw, student_training), (teacher_saw, teacher_training) = seen["student"], seen["teacher"]
    np.testing.assert_allclose(student_saw, np.concatenate([x["labelled"], x["unlabelled"]]) + 0.5)
    np.testing.assert_array_equal(teacher_saw, x["unlabelled"])
    assert student_training and not teacher_training


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_unlabelled_half_moves_the_student_by_its_weight(weight):
    """Without batch statistics between the halves, only soft labels tie the student to the second half."""
    x, y = batch()
    ends = []
    for seed in (1, 2):
        keras.utils.set_random_seed(0)
        student = keras.Sequential(
            [keras.Input((BANDS, FRAMES)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
        )
        model = NoisyStudent(student, network(seed=2), weight=weight)
        model.compile(keras.optimizers.SGD(0.1))
        model.fit(x | {"unlabelled": inputs(6, seed=seed)}, y, batch_size=6, verbose=0)
        ends.append(weights(student)[0])
    difference = np.abs(ends[0] - ends[1]).max()
    assert difference > 1e-3 if weight else difference < 1e-6


def test_validation_prediction_and_metrics_are_those_of_the_student():
    student, teacher = network(seed=1), network(seed=2)
    model = NoisyStudent(student, teacher, Shift(), "single_label")
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    x, y = batch("single_label")
    history = model.fit(x, y, batch_size=6, epochs=2, validation_data=(x["labelled"], y), verbose=0).history
    logits = ops.convert_to_numpy(student(x["labelled"], training=False))
    np.testing.assert_allclose(model.predict(x["labelled"], verbose=0), logits, atol=1e-5)
    expected = cross_entropy(logits, np.eye(CLASSES)[y], "single_label")
    assert history["val_loss"][1] == pytest.approx(expected, rel=1e-4)
    assert history["val_accuracy"][1] == pytest.approx((logits.argmax(axis=-1) == y).mean())
    assert 0 <= history["accuracy"][0] <= 1


def test_metrics_get_probabilities():
    student = network(seed=1)
    model = NoisyStudent(student, student)
    model.compile(keras.optimizers.SGD(0.0), metrics=[keras.metrics.MeanAbsoluteError(name="error")])
    x, y = inputs(6), labels(6, "multi_label")
    got = model.evaluate(x, y, verbose=0, return_dict=True)["error"]
    logits = ops.convert_to_numpy(student(x, training=False))
    assert got == pytest.approx(np.abs(expit(logits) - y).mean(), rel=1e-5)


def test_a_classifier_teaches_another():
    """A real classifier's views, with an augmentation of ours' kind; only the student's weights change."""
    student, teacher = small_classifier(seed=1, name="student"), small_classifier(seed=2, name="teacher")
    before = teacher.tensors(), student.tensors()
    model = NoisyStudent(
        student.view("features", "logits"),
        teacher.view("features", "logits"),
        keras.layers.GaussianNoise(0.1, seed=0),
    )
    model.compile(keras.optimizers.SGD(0.01), jit_compile=keras.config.backend() == "jax")
    rng = np.random.default_rng(0)
    shape = (8, *student.backbone.input_shape[1:2], 20)
    features = {half: rng.uniform(size=shape).astype("float32") for half in ("labelled", "unlabelled")}
    history = model.fit(features, labels(8, "multi_label"), batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for name, tensor in teacher.tensors().items():
        np.testing.assert_array_equal(tensor, before[0][name])
    moved = [
        name for name, tensor in student.tensors().items() if not np.array_equal(tensor, before[1][name])
    ]
    parts = {name.split(".")[0] for name in moved}
    assert {"backbone", "head"} <= parts and "calibrator" not in parts


def test_a_student_with_few_labels_gets_near_its_teacher():
    """Three classes of noisy directions: 12 labels alone do worse than the same labels with the teacher's."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(CLASSES, BANDS, FRAMES)) * 0.45

    def drawn(examples):
        y = rng.integers(CLASSES, size=examples)
        x = directions[y] + rng.normal(size=(examples, BANDS, FRAMES))
        return x.astype("float32"), y

    (x, y), (test_x, test_y) = drawn(400), drawn(1000)

    def accuracy(model):
        return (model.predict(test_x, verbose=0).argmax(axis=-1) == test_y).mean()

    def student_with(weight, teacher):
        model = NoisyStudent(
            network(16, seed=5), teacher, keras.layers.GaussianNoise(0.3, seed=0), "single_label", weight
        )
        model.compile(keras.optimizers.Adam(0.01))
        few = ImageBatches(x[:40], 20, targets=y[:40])
        model.fit(Halves(few, ImageBatches(x[40:], 20)), epochs=8, shuffle=False, verbose=0)
        return accuracy(model)

    teacher = network(16, seed=4)
    teacher.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(x, y, batch_size=40, epochs=15, verbose=0)
    taught, alone = student_with(1.0, teacher), student_with(0.0, teacher)
    assert accuracy(teacher) > 0.75
    assert taught > accuracy(teacher) - 0.05
    assert taught > alone + 0.02


# ---- batches -----------------------------------------------------------------------------------------------


def test_halves_go_through_all_examples_of_both():
    few, many = np.arange(6.0).reshape(6, 1, 1), np.arange(20.0).reshape(20, 1, 1)
    data = Halves(ImageBatches(few, 2, targets=np.arange(6)), ImageBatches(many, 4, seed=1))
    assert len(data) == 5
    steps = [data.batch(epoch, index) for epoch in range(3) for index in range(5)]
    for x, y in steps:
        np.testing.assert_array_equal(x["labelled"].ravel(), y)
        assert x["unlabelled"].shape == (4, 1, 1)
    labelled = np.stack([y for _, y in steps])
    for start in range(0, 15, 3):  # three batches are an epoch of the smaller half
        assert sorted(labelled[start : start + 3].ravel()) == list(range(6))
    unlabelled = np.stack([x["unlabelled"].ravel() for x, _ in steps])
    orders = [unlabelled[start : start + 5].ravel() for start in range(0, 15, 5)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])


def test_halves_leave_labels_of_the_unlabelled_out_and_need_those_of_the_others():
    images = inputs(4)
    labelled, plain = ImageBatches(images, 2, targets=np.arange(4)), ImageBatches(images, 2)
    x, _ = Halves(labelled, labelled)[0]
    assert x["unlabelled"].shape == (2, BANDS, FRAMES)
    with pytest.raises(ValueError, match="pairs of inputs and labels"):
        Halves(plain, labelled)[0]


# ---- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "regression"}, "`task` must be one of"),
        ({"weight": -1.0}, "must not be negative"),
        ({"teacher": 4}, "same classes"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    teacher = network(classes=settings.pop("teacher", CLASSES))
    with pytest.raises(ValueError, match=message):
        NoisyStudent(network(), teacher, **settings)


def test_misnamed_halves_missing_labels_and_sample_weights_are_refused():
    model = NoisyStudent(network(), network())
    x, y = batch()
    with pytest.raises(ValueError, match="takes inputs named"):
        model({"labeled": x["labelled"], "unlabeled": x["unlabelled"]})
    predicted = model(x)
    with pytest.raises(ValueError, match="needs the labels"):
        model.compute_loss(x, None, predicted)
    with pytest.raises(ValueError, match="no sample weights"):
        model.compute_loss(x, y, predicted, sample_weight=np.ones(6))
