import numpy as np
import pytest
from calibration.calibration_cases import multi_label_case, single_label_case
from scipy.special import expit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from music_zoo.calibration import fit_isotonic, fit_temperature
from music_zoo.calibration.fit_isotonic import KNOTS, MAX_SLOPE, _table


def reference(posteriors, truth, weights=None):
    return IsotonicRegression(y_min=0, y_max=1).fit(posteriors, truth, sample_weight=weights)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_at_its_knots_it_says_what_scikit_learn_does(task):
    if task == "single_label":
        logits, targets = single_label_case(600, 4, seed=0)
        activation, truth = lambda z: softmax(z, axis=-1), np.eye(4)[targets]
    else:
        logits, targets = multi_label_case(600, 4, seed=0)
        activation, truth = expit, targets
    temperature, knots, values = fit_isotonic(3 * logits, targets, task)
    assert temperature == fit_temperature(3 * logits, targets, task)
    assert knots.shape == values.shape == (4, KNOTS)
    posteriors = activation(3 * logits / temperature)
    for c in range(4):
        theirs = reference(posteriors[:, c], truth[:, c])
        steps = np.unique(theirs.predict(posteriors[:, c]).round(12))
        # But for the few that are merged as too steep, each step of theirs is a knot at its middle.
        same = np.isclose(theirs.predict(knots[c]).clip(1 / 602, 1 - 1 / 602), values[c], atol=1e-9)
        assert same.mean() > 0.8 and len(np.unique(values[c])) > 0.6 * len(steps)
        # A merge moves nothing but the neighbourhood.
        ours = np.interp(posteriors[:, c], knots[c], values[c])
        assert np.abs(ours - theirs.predict(posteriors[:, c])).mean() < 0.03


def test_steps_that_are_far_apart_become_one_knot_each():
    posteriors = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    truth = np.array([0, 1, 0, 0, 1, 1, 0, 1])
    # Pooling by hand: 0 | 1 0 0 | 1 1 0 | 1.
    knots, values = _table(posteriors, truth, np.ones(8))
    np.testing.assert_allclose(knots, [0.1, 0.3, 0.6, 0.8])
    np.testing.assert_allclose(values, [0, 1 / 3, 2 / 3, 1], atol=1e-12)


def test_neighbours_that_are_too_near_are_merged_with_their_weights():
    # 0 at (0.48 + 3 * 0.5) / 4 = 0.495 and 1 at 0.5 lie 1 / 200 apart: their mean is at 0.496.
    knots, values = _table(np.array([0.48, 0.5, 0.5 + 1e-9]), np.array([0, 0, 1]), np.array([1, 3, 1.0]))
    np.testing.assert_allclose(knots, [0.496])
    np.testing.assert_allclose(values, [0.2])


@pytest.mark.parametrize("seed", range(5))
def test_tables_rise_and_are_neither_steep_nor_long_nor_certain(seed):
    logits, targets = multi_label_case(3000, 2, seed)
    noisy = 10 * np.round(logits, 3)  # ties, and posteriors that crowd at 0 and 1
    _, knots, values = fit_isotonic(noisy, targets, "multi_label")
    for x, y in zip(knots, values, strict=True):
        assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
        assert (np.diff(y) <= MAX_SLOPE * np.diff(x) + 1e-12).all()
        assert y.min() >= 1 / 3002 and y.max() <= 1 - 1 / 3002


def test_a_table_longer_than_its_room_loses_little():
    rng = np.random.default_rng(1)
    posteriors = np.sort(rng.uniform(size=200_000))
    truth = rng.uniform(size=posteriors.size) < posteriors
    steps = np.unique(reference(posteriors, truth).predict(posteriors).round(12))
    knots, values = _table(posteriors, truth, np.ones(posteriors.size))
    assert len(steps) > KNOTS == len(knots)
    np.testing.assert_allclose(np.interp(posteriors, knots, values), posteriors, atol=0.03)


def test_a_bent_curve_is_straightened():
    rng = np.random.default_rng(2)
    true = rng.uniform(0.05, 0.95, size=(20_000, 1))
    logits, targets = np.log(true**3 / (1 - true**3)), (rng.uniform(size=true.shape) < true).astype(int)
    temperature, knots, values = fit_isotonic(logits[:10_000], targets[:10_000], "multi_label")
    told = np.interp(expit(logits[10_000:, 0] / temperature), knots[0], values[0])
    assert np.abs(told - true[10_000:, 0]).mean() < 0.02
    shared = expit(logits[10_000:, 0] / temperature)
    assert log_loss(targets[10_000:, 0], told) < log_loss(targets[10_000:, 0], shared) - 0.01


def test_windows_share_the_weight_of_their_file():
    logits, targets = single_label_case(150, 3, seed=3)
    plain = fit_isotonic(logits, targets)
    for windows in (2, 3):
        repeated = fit_isotonic(np.repeat(logits[:, None], windows, axis=1), targets)
        for ours, theirs in zip(repeated, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    ragged = [np.repeat(file[None], 1 + i % 4, axis=0) for i, file in enumerate(logits)]
    np.testing.assert_allclose(fit_isotonic(ragged, targets)[2], plain[2], atol=1e-6)


def test_a_tag_without_both_kinds_of_files_keeps_the_temperature():
    logits, targets = multi_label_case(200, 2, seed=4)
    targets[:, 1] = 0
    with pytest.warns(UserWarning, match="those with index 1"):
        temperature, knots, values = fit_isotonic(logits, targets, "multi_label")
    assert temperature == fit_temperature(logits, targets, "multi_label")
    np.testing.assert_array_equal(knots[1], values[1])
    assert (knots[1, 0], knots[1, -1]) == (1 / 202, 1 - 1 / 202)


def test_constant_logits_give_the_shares_of_classes():
    with pytest.warns(UserWarning, match="all alike"):
        _, _, values = fit_isotonic(np.full((200, 2), 3.0), np.repeat([0, 1], [150, 50]))
    np.testing.assert_allclose(values, np.repeat([[0.75], [0.25]], KNOTS, axis=1))


GOOD, CLASSES = np.random.default_rng(9).normal(size=(120, 3)), np.arange(120) % 3


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.where(np.eye(120, 3), np.inf, GOOD), CLASSES, "must be finite"),
        (GOOD[:99], CLASSES[:99], "at least 100 held-out files, got 99"),
        (GOOD, CLASSES - 1, "0..2 for 3 classes"),
        (GOOD, CLASSES % 2, "index 2. Add files"),
    ],
)
def test_mistakes_are_named(logits, targets, message):
    with pytest.raises(ValueError, match=message):
        fit_isotonic(logits, targets)
