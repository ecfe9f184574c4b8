import numpy as np
import pytest
from calibration.calibration_cases import multi_label_case, single_label_case
from scipy.optimize import check_grad, minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from music_zoo.calibration import fit_temperature, fit_vector_scaling


def test_of_tags_without_pull_it_is_logistic_regression():
    logits, targets = multi_label_case(400, 3, seed=0)
    scale, bias = fit_vector_scaling(logits, targets, "multi_label", pull=0)
    for c in range(3):
        reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        reference.fit(logits[:, c : c + 1], targets[:, c])
        assert scale[c] == pytest.approx(reference.coef_[0, 0], rel=1e-4)
        assert bias[c] == pytest.approx(reference.intercept_[0], rel=1e-4, abs=1e-4)


def penalised(parameters, logits, targets, temperature, pull):
    scale, bias = parameters.reshape(2, -1)
    log_p = log_softmax(logits * scale + bias, axis=1)
    penalty = ((scale * temperature - 1) ** 2).sum() + (bias**2).sum()
    return -log_p[np.arange(len(targets)), targets].sum() + pull / 2 * penalty


def test_no_other_search_finds_a_better_optimum():
    logits, targets = single_label_case(300, 4, seed=1)
    logits = logits * [0.5, 1, 2, 3] + [0, 1, 0, -1]
    temperature = fit_temperature(logits, targets)
    found = np.concatenate(fit_vector_scaling(logits, targets))
    reference = minimize(
        penalised, np.repeat([1.0, 0.0], 4), (logits, targets, temperature, 1.0), tol=1e-9
    )  # gradients by differences
    np.testing.assert_allclose(found, reference.x, atol=1e-3)
    assert penalised(found, logits, targets, temperature, 1.0) <= reference.fun + 1e-6


def test_known_scales_and_biases_are_recovered():
    logits, targets = single_label_case(20_000, 4, seed=2)
    scale, bias = np.array([0.5, 1, 2, 1.5]), np.array([0, 1, -1, 0.5])
    found_scale, found_bias = fit_vector_scaling((logits - bias) / scale, targets)
    np.testing.assert_allclose(found_scale, scale, rtol=0.06)
    np.testing.assert_allclose(found_bias - found_bias.mean(), bias - bias.mean(), atol=0.08)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_mean_over_windows_has_its_optimum_there(task):
    case, activation = {
        "single_label": (single_label_case, lambda z: softmax(z, axis=-1)),
        "multi_label": (multi_label_case, expit),
    }[task]
    logits, targets = case(200, 3, seed=3, windows=4)
    logits = 2 * logits + [0.5, 0, -0.5]
    scale, bias = fit_vector_scaling(logits, targets, task, pull=0)

    def nll(parameters):
        scale, bias = parameters.reshape(2, 3)
        means = activation(logits * scale + bias).mean(axis=1)
        if task == "single_label":
            return -np.log(means[np.arange(200), targets]).sum()
        return -np.log(np.where(targets == 1, means, 1 - means)).sum()

    best = np.concatenate([scale, bias])
    slopes = [(nll(best + 1e-5 * e) - nll(best - 1e-5 * e)) / 2e-5 for e in np.eye(6)]
    np.testing.assert_allclose(slopes, 0, atol=1e-2)
    assert nll(best) < nll(np.repeat([1 / fit_temperature(logits, targets, task), 0.0], 3))


def test_the_gradients_are_those_of_differences():
    from music_zoo.calibration.fit_vector_scaling import _sigmoid_nll, _softmax_nll

    rng = np.random.default_rng(4)
    logits = rng.normal(size=(5, 3))
    for nll, truth in ((_softmax_nll, rng.integers(3, size=5)), (_sigmoid_nll, rng.integers(2, size=(5, 3)))):
        error = check_grad(
            lambda z, nll=nll, truth=truth: -nll(z.reshape(5, 3), truth)[0].sum(),
            lambda z, nll=nll, truth=truth: nll(z.reshape(5, 3), truth)[1].ravel(),
            logits.ravel(),
        )
        assert error < 1e-6


def test_few_files_stay_near_the_temperature_and_many_do_not():
    logits, targets = single_label_case(4000, 3, seed=5)
    logits = logits + [2, 0, -2]

    def away(files, pull=1.0):
        scale, bias = fit_vector_scaling(logits[:files], targets[:files], pull=pull)
        return np.linalg.norm([scale * fit_temperature(logits[:files], targets[:files]) - 1, bias])

    assert 0.5 * away(20, 0.01) > away(20) > 4 * away(20, 100) > 0
    assert away(4000) > 0.9 * away(4000, 0.01) > 2
    assert away(4000, 1e8) < 1e-4


def test_no_class_is_turned_round():
    logits, targets = multi_label_case(300, 3, seed=6)
    logits[:, 1] *= -1
    scale, _ = fit_vector_scaling(logits, targets, "multi_label")
    assert scale[0] > 0 and scale[1] == 0 and scale[2] > 0


def test_a_tag_without_both_kinds_of_files_keeps_the_temperature():
    logits, targets = multi_label_case(200, 3, seed=7)
    targets[:, 1], targets[:, 2] = 0, 1
    with pytest.warns(UserWarning, match="those with index 1, 2"):
        scale, bias = fit_vector_scaling(logits, targets, "multi_label")
    temperature = fit_temperature(logits, targets, "multi_label")
    np.testing.assert_allclose(scale[1:], 1 / temperature)
    np.testing.assert_array_equal(bias[1:], 0)
    assert bias[0] != 0
    with pytest.warns(UserWarning, match="those with index"):
        alone = fit_vector_scaling(logits[:, :1], targets[:, :1], "multi_label", pull=0)
        together = fit_vector_scaling(logits, targets, "multi_label", pull=0)
    np.testing.assert_allclose([alone[0][0], alone[1][0]], [together[0][0], together[1][0]], rtol=1e-4)


def test_constant_logits_give_the_shares_of_classes():
    targets = np.repeat([0, 1, 2], [500, 300, 200])
    with pytest.warns(UserWarning, match="all alike"):
        scale, bias = fit_vector_scaling(np.full((1000, 3), 7.0), targets)
    np.testing.assert_allclose(softmax(7 * scale + bias), [0.5, 0.3, 0.2], atol=0.01)


GOOD, CLASSES = np.random.default_rng(9).normal(size=(12, 3)), np.arange(12) % 3


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.where(np.eye(12, 3), np.inf, GOOD), CLASSES, "must be finite"),
        (GOOD[:9], CLASSES[:9], "at least 10 held-out files"),
        (GOOD, CLASSES + 1, "0..2 for 3 classes"),
        (GOOD, CLASSES % 2, "index 2. Add files"),
    ],
)
def test_mistakes_are_named(logits, targets, message):
    with pytest.raises(ValueError, match=message):
        fit_vector_scaling(logits, targets)
