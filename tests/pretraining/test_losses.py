from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.special import expit, log_softmax, softmax

from music_zoo.pretraining import losses

pytestmark = pytest.mark.keras

PARITY = Path(__file__).parents[1] / "parity"
STORED = np.load(PARITY / "losses.npz")
MOCO = np.load(PARITY / "moco.npz")
Z1, Z2, Z3, P1, P2 = (STORED[name] for name in ("z1", "z2", "z3", "p1", "p2"))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@cache
def compiled(function, arguments: int):
    """On JAX: the function's value and gradients, compiled once for the tests that share it."""
    import jax

    return jax.jit(jax.value_and_grad(function, argnums=tuple(range(arguments))))


def value_and_gradients(function, *arrays):
    """A scalar function's value, and its gradient by each array, as numpy."""
    arrays = [np.asarray(array, "float32") for array in arrays]
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        inputs = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        gradients = tape.gradient(value, inputs)
    elif backend == "jax":
        value, gradients = compiled(function, len(arrays))(*arrays)
    else:
        import torch

        inputs = [torch.tensor(array, requires_grad=True) for array in arrays]
        value = function(*inputs)
        value.backward()
        value, gradients = value.detach(), [array.grad for array in inputs]
    return float(value), [ops.convert_to_numpy(gradient) for gradient in gradients]


def value(tensor) -> float:
    return float(ops.convert_to_numpy(tensor))


def random(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# ---- the published values and gradients --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "loss"),
    [
        ("ntxent_clmr_tau0.5", lambda a, b: losses.nt_xent(a, b, temperature=0.5)),
        ("ntxent_clmr_tau0.1", lambda a, b: losses.nt_xent(a, b, temperature=0.1)),
        ("ntxent_deezer_tau0.1", lambda a, b: losses.nt_xent(a, b, temperature=0.1)),
        ("barlow_deezer", losses.barlow_twins),
        ("vicreg_deezer", losses.vicreg),
    ],
)
def test_two_views_as_published(stored, loss):
    total, gradients = value_and_gradients(loss, Z1, Z2)
    np.testing.assert_allclose(total, STORED[stored], **CLOSE)
    for name, gradient in zip(("z1", "z2"), gradients, strict=True):
        np.testing.assert_allclose(gradient, STORED[f"{stored}_grad_{name}"], **CLOSE)


def test_three_views_as_published():
    pairs = [(Z1, Z2), (Z1, Z3), (Z2, Z3)]
    np.testing.assert_allclose(
        value(losses.nt_xent(Z1, Z2, Z3, temperature=0.1)), STORED["ntxent_deezer_3views"], **CLOSE
    )
    for name, loss in {"barlow": losses.barlow_twins, "vicreg": losses.vicreg}.items():
        mean = np.mean([value(loss(*pair)) for pair in pairs])
        np.testing.assert_allclose(mean, STORED[f"{name}_deezer_3views"], **CLOSE)


def test_the_terms_as_published():
    on = value(losses.barlow_twins(Z1, Z2, redundancy_weight=0))
    np.testing.assert_allclose(on, STORED["barlow_deezer_on"], **CLOSE)
    both = value(losses.barlow_twins(Z1, Z2, redundancy_weight=3))
    np.testing.assert_allclose(both - on, 3 * STORED["barlow_deezer_off"], **CLOSE)
    for term, weights in {"inv": (2, 0, 0), "var": (0, 2, 0), "cov": (0, 0, 2)}.items():
        total = value(losses.vicreg(Z1, Z2, *weights))
        np.testing.assert_allclose(total, 2 * STORED[f"vicreg_deezer_{term}"], **CLOSE)


def test_nt_xent_behind_the_published_projector(monkeypatch):
    """The stored projection is that of the first view; weights and embeddings follow the fixtures' rule."""
    monkeypatch.syspath_prepend(PARITY)
    import fixture_rules

    first = 0.5 * fixture_rules.normals("losses/h512", (4, 512))
    second = first + 0.3 * fixture_rules.normals("losses/h512b", (4, 512))
    into, out = (
        fixture_rules.fill(str(key), shape)
        for key, shape in zip(STORED["simclr_projector_keys"], [(512, 512), (128, 512)], strict=True)
    )
    projections = [np.maximum(view.astype("float32") @ into.T, 0) @ out.T for view in (first, second)]
    np.testing.assert_allclose(projections[0], STORED["simclr_projection"], **CLOSE)
    total = value(losses.nt_xent(*projections, temperature=0.5))
    np.testing.assert_allclose(total, STORED["simclr_projection_loss_tau0.5"], **CLOSE)


def test_byol_is_the_textbook_form_and_not_that_of_the_study():
    def both_directions(p1, p2):
        return (losses.byol(p1, Z2) + losses.byol(p2, Z1)) / 2

    total, gradients = value_and_gradients(both_directions, P1, P2)
    np.testing.assert_allclose(total, STORED["byol_textbook"], **CLOSE)
    np.testing.assert_allclose(np.stack(gradients), STORED["byol_textbook_grad_student"], **CLOSE)

    def unit(a):
        return a / np.linalg.norm(a, axis=-1, keepdims=True)

    over_the_batch = [2 - 2 * (unit(p) * unit(z)).sum(axis=0) for p, z in ((P1, Z2), (P2, Z1))]
    np.testing.assert_allclose(np.mean(over_the_batch), STORED["byol_deezer"], **CLOSE)
    assert abs(total - STORED["byol_deezer"]) > 1e-3


def test_clustering_as_published():
    centre = np.zeros(STORED["clustering_student0"].shape[-1], "float32")
    for call, epoch in enumerate(STORED["clustering_epochs"]):
        teacher = STORED[f"clustering_teacher{call}"]

        def loss(*students, teacher=teacher, centre=centre, epoch=epoch):
            return losses.clustering(
                students,
                teacher,
                centre,
                student_temperature=float(STORED["clustering_student_temp"][epoch]),
                teacher_temperature=float(STORED["clustering_teacher_temp"][epoch]),
            )

        total, gradients = value_and_gradients(loss, *STORED[f"clustering_student{call}"])
        np.testing.assert_allclose(total, STORED[f"clustering_loss{call}"], **CLOSE)
        np.testing.assert_allclose(np.stack(gradients), STORED[f"clustering_grad{call}"], **CLOSE)
        centre = ops.convert_to_numpy(losses.update_centre(centre, teacher, momentum=0.9))
        np.testing.assert_allclose(centre, np.ravel(STORED[f"clustering_center_after{call}"]), **CLOSE)


def test_info_nce_as_published():
    queue, previous = MOCO["queue0"].T, (MOCO["weight"], MOCO["bias"])
    temperature = float(MOCO["T"])
    for step in range(6):

        def loss(weight, bias, step=step, queue=queue):
            query = ops.matmul(MOCO[f"step{step}_xq"], ops.transpose(weight)) + bias
            key = MOCO[f"step{step}_xk"] @ MOCO[f"step{step}_k_weight"].T + MOCO[f"step{step}_k_bias"]
            return losses.info_nce(losses.info_nce_logits(query, key, queue, temperature))

        total, (gradient, _) = value_and_gradients(loss, *previous)
        np.testing.assert_allclose(total, MOCO[f"step{step}_loss"], **CLOSE)
        np.testing.assert_allclose(gradient, MOCO[f"step{step}_grad_q_weight"], **CLOSE)
        query = MOCO[f"step{step}_xq"] @ previous[0].T + previous[1]
        key = MOCO[f"step{step}_xk"] @ MOCO[f"step{step}_k_weight"].T + MOCO[f"step{step}_k_bias"]
        logits = losses.info_nce_logits(query, key, queue, temperature)
        np.testing.assert_allclose(
            ops.convert_to_numpy(logits), MOCO[f"step{step}_logits"], rtol=1e-5, atol=2e-5
        )
        queue = MOCO[f"step{step}_queue"].T
        previous = MOCO[f"step{step}_q_weight"], MOCO[f"step{step}_q_bias"]


# ---- closed forms ------------------------------------------------------------------------------------------


def test_nt_xent_of_orthogonal_clips():
    """Both views alike, all clips at right angles: one similarity of 1, the others 0."""
    clips, temperature = 4, 0.5
    eye = np.eye(clips, 6, dtype="float32")
    for views in (2, 3):
        others = (views - 1) * np.exp(1 / temperature) + views * (clips - 1)
        expected = np.log(others) - 1 / temperature
        assert value(losses.nt_xent(*[eye] * views, temperature=temperature)) == pytest.approx(expected, 1e-5)


def test_nt_xent_of_views_that_are_all_alike_is_that_of_chance():
    ones = np.ones((5, 3), "float32")
    assert value(losses.nt_xent(ones, 2 * ones, temperature=0.1)) == pytest.approx(np.log(9), 1e-5)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_contrastive_losses_depend_on_directions_alone(seed, scale):
    a, b = random(4, 6, seed=seed), random(4, 6, seed=seed + 100)
    queue = np.eye(6, dtype="float32")
    for loss in (
        lambda x, y: losses.nt_xent(x, y, temperature=0.5),
        lambda x, y: losses.info_nce(losses.info_nce_logits(x, y, queue, 0.5)),
        losses.byol,
    ):
        assert value(loss(scale * a, b)) == pytest.approx(value(loss(a, b)), rel=1e-4, abs=1e-5)


def test_nt_xent_does_not_tell_its_views_apart():
    one, other = (value(losses.nt_xent(*pair, temperature=0.3)) for pair in ((Z1, Z2), (Z2, Z1)))
    assert one == pytest.approx(other, 1e-6)


def test_info_nce_of_a_key_that_is_found_at_once():
    query, queue = np.eye(3, 8, dtype="float32"), np.eye(8, dtype="float32")[3:]
    expected = np.log(np.exp(1 / 0.2) + 5) - 1 / 0.2
    assert value(losses.info_nce(losses.info_nce_logits(query, 7 * query, queue, 0.2))) == pytest.approx(
        expected, rel=1e-4
    )
    assert ops.convert_to_numpy(losses.info_nce_logits(query, query, queue, 0.2)).shape == (3, 6)


def test_byol_of_angles():
    a = np.array([[1.0, 0], [0, 2]], "float32")
    for other, expected in ((3 * a, 0), (a[::-1].copy(), 2), (-a, 4)):
        assert value(losses.byol(a, other)) == pytest.approx(expected, abs=1e-5)


def walsh() -> np.ndarray:
    """Four clips, three features with mean 0 and variance 1 that do not correlate."""
    return np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], "float32")


def test_barlow_twins_of_features_that_do_not_correlate():
    # Biased variances, products divided by 3: the diagonal is 4/3, and not 1.
    assert value(losses.barlow_twins(walsh(), walsh())) == pytest.approx(1 / 9, rel=1e-3)
    # Features that are all the same: every correlation is 4/3.
    same = np.repeat(walsh()[:, :1], 3, axis=1)
    expected = 1 / 9 + 0.5 * 16 / 9
    assert value(losses.barlow_twins(same, same, redundancy_weight=0.5)) == pytest.approx(expected, rel=1e-3)


def test_vicreg_of_features_that_do_not_correlate():
    assert value(losses.vicreg(walsh(), walsh())) == pytest.approx(0, abs=1e-5)
    assert value(losses.vicreg(walsh(), walsh() + 2)) == pytest.approx(4, rel=1e-4)
    # Half the spread: an unbiased standard deviation of sqrt(4/3)/2.
    expected = 3 * (1 - np.sqrt(1 / 3 + 1e-5))
    assert value(losses.vicreg(walsh() / 2, walsh() / 2, 1, 3, 1)) == pytest.approx(expected, rel=1e-4)


def test_one_feature_correlates_with_no_other():
    one = walsh()[:, :1]
    assert value(losses.vicreg(one, one)) == pytest.approx(0, abs=1e-5)


def test_clustering_of_even_assignments():
    """Without a preference of the student the loss is log(prototypes), whatever the teacher says."""
    student, teacher = [np.zeros((3, 7), "float32")] * 2, [random(3, 7), random(3, 7, seed=1)]
    loss = losses.clustering(student, teacher, np.zeros(7), teacher_temperature=0.04)
    assert value(loss) == pytest.approx(np.log(7), rel=1e-5)


def test_clustering_with_a_third_view_of_the_student_alone():
    students, teachers = [random(3, 7, seed=s) for s in range(3)], [random(3, 7, seed=s) for s in (5, 6)]
    centre = random(7, seed=9)
    targets = [softmax((t - centre) / 0.05, axis=-1) for t in teachers]
    terms = [
        -(t * log_softmax(s / 0.2, axis=-1)).sum(axis=-1).mean()
        for i, t in enumerate(targets)
        for j, s in enumerate(students)
        if i != j
    ]
    loss = losses.clustering(students, teachers, centre, student_temperature=0.2, teacher_temperature=0.05)
    assert len(terms) == 4
    assert value(loss) == pytest.approx(np.mean(terms), rel=1e-4)


def test_clustering_views_do_not_learn_from_themselves():
    """The teacher's first view is the student's target for the second view alone."""
    students = [random(3, 7), random(3, 7, seed=1)]
    loss = losses.clustering(students, [students[0]], np.zeros(7), teacher_temperature=0.1)
    target = softmax(students[0] / 0.1, axis=-1)
    expected = -(target * log_softmax(students[1] / 0.1, axis=-1)).sum(axis=-1).mean()
    assert value(loss) == pytest.approx(expected, rel=1e-4)


def test_distillation_is_cross_entropy_to_soft_labels():
    logits, other = 3 * random(5, 4), random(5, 4, seed=1)
    p, q = expit(logits.astype("float64")), expit(other)
    expected = -(q * np.log(p) + (1 - q) * np.log(1 - p)).mean()
    assert value(losses.distillation(logits, q, "multi_label")) == pytest.approx(expected, rel=1e-5)
    q = softmax(other, axis=-1)
    expected = -(q * log_softmax(logits, axis=-1)).sum(axis=-1).mean()
    assert value(losses.distillation(logits, q, "single_label")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", ["multi_label", "single_label"])
def test_distillation_is_least_where_the_student_says_what_the_teacher_says(task):
    logits = random(5, 4)
    probabilities = expit(logits) if task == "multi_label" else softmax(logits, axis=-1)
    _, (gradient,) = value_and_gradients(lambda x: losses.distillation(x, probabilities, task), logits)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


# ---- what every loss must bear -----------------------------------------------------------------------------

QUEUE = np.eye(16, dtype="float32")
PAIRS = {
    "nt_xent": lambda a, b: losses.nt_xent(a, b, temperature=0.1),
    "info_nce": lambda a, b: losses.info_nce(losses.info_nce_logits(a, b, QUEUE, 0.1)),
    "byol": losses.byol,
    "barlow_twins": losses.barlow_twins,
    "vicreg": losses.vicreg,
    "clustering": lambda a, b: losses.clustering([a, b], [b, a], np.zeros(16), teacher_temperature=0.04),
    "distillation": lambda a, b: losses.distillation(a, ops.sigmoid(b)),
    "distillation, one label": lambda a, b: losses.distillation(a, ops.softmax(b), "single_label"),
}
pairs = pytest.mark.parametrize("name", PAIRS)


@pairs
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0 * Z1, 0 * Z2),
        (0 * Z1, Z2),
        (Z1, Z1),
        (1e-20 * Z1, Z2),
        (1e4 * Z1, 1e4 * Z2),
        (0 * Z1 + 1, 0 * Z1 + 1),
    ],
    ids=["zeros", "zeros and others", "alike", "next to nothing", "large", "constant"],
)
def test_values_and_gradients_are_finite(name, first, second):
    total, gradients = value_and_gradients(PAIRS[name], first, second)
    assert np.isfinite(total)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pairs
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(name, dtype):
    half = [ops.cast(ops.convert_to_tensor(a), dtype) for a in (Z1, Z2)]
    loss = PAIRS[name](*half)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    rounded = [ops.convert_to_numpy(ops.cast(a, "float32")) for a in half]
    assert value(loss) == pytest.approx(
        value(PAIRS[name](*rounded)), rel=1e-3
    )  # the sigmoid was of half floats


@pairs
def test_batches_of_unknown_size_give_the_same(name):
    inputs = [keras.Input((16,)), keras.Input((16,))]

    @keras.saving.register_keras_serializable(package="tests")
    class Loss(keras.layers.Layer):
        def call(self, first, second):
            return ops.reshape(PAIRS[name](first, second), (1, 1)) * ops.ones_like(first[:, :1])

    got = keras.Model(inputs, Loss()(*inputs)).predict([Z1, Z2], verbose=0)
    np.testing.assert_allclose(got, value(PAIRS[name](Z1, Z2)), rtol=1e-5)


@pytest.mark.parametrize("name", ["nt_xent", "barlow_twins", "vicreg"])
def test_a_batch_of_one_is_refused_where_clips_are_compared(name):
    with pytest.raises(ValueError, match="at least 2 clips in a batch, got 1"):
        PAIRS[name](Z1[:1], Z2[:1])


@pytest.mark.parametrize("name", ["info_nce", "byol", "clustering", "distillation"])
def test_a_batch_of_one_is_enough_elsewhere(name):
    assert np.isfinite(value(PAIRS[name](Z1[:1], Z2[:1])))


@pairs
def test_different_shapes_are_refused(name):
    with pytest.raises(ValueError, match="same shape"):
        PAIRS[name](Z1, Z2[:4])
    with pytest.raises(ValueError, match="same shape"):
        PAIRS[name](Z1[0], Z2[0])


def test_too_few_views_and_unknown_tasks_are_refused():
    with pytest.raises(ValueError, match="at least 2 views"):
        losses.nt_xent(Z1, temperature=0.1)
    with pytest.raises(ValueError, match="at least 2 views"):
        losses.clustering([Z1], [Z2], np.zeros(16), teacher_temperature=0.04)
    with pytest.raises(ValueError, match="`task` must be"):
        losses.distillation(Z1, Z2, "regression")


def test_vectors_of_unit_length():
    vectors = np.concatenate([Z1, np.zeros((1, 16), "float32")])
    lengths = np.linalg.norm(ops.convert_to_numpy(losses.unit_length(vectors)), axis=-1)
    np.testing.assert_allclose(lengths, [1] * 8 + [0], atol=1e-6)
