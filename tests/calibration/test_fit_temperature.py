import re
from pathlib import Path

import numpy as np
import pytest
from calibration.calibration_cases import single_label_case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logit, softmax

from music_zoo.calibration import fit_temperature

FIXTURE = Path(__file__).parents[1] / "parity" / "temperature.npz"


def test_it_finds_the_optimum_of_an_independent_search():
    stored = np.load(FIXTURE)
    temperature = fit_temperature(stored["logits"], stored["labels"])
    assert temperature == pytest.approx(float(stored["temperature_optimum"]), abs=1e-6)
    log_p = log_softmax(stored["logits"].astype(np.float64) / temperature, axis=1)
    nll = -log_p[np.arange(len(log_p)), stored["labels"]].mean()
    assert nll == pytest.approx(float(stored["nll_optimum"]), abs=1e-10)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(scale=st.floats(0.1, 10), seed=st.integers(0, 99))
def test_scaled_logits_need_a_temperature_scaled_alike(scale, seed):
    logits, targets = single_label_case(200, 5, seed)
    assert fit_temperature(scale * logits, targets) == pytest.approx(
        scale * fit_temperature(logits, targets), rel=1e-6
    )


def test_a_known_scale_is_recovered():
    logits, targets = single_label_case(20_000, 8, seed=1)
    assert fit_temperature(2.5 * logits, targets) == pytest.approx(2.5, rel=0.03)


def test_a_known_scale_is_recovered_from_the_mean_over_windows():
    logits, targets = single_label_case(10_000, 6, seed=2, windows=4, spread=3.0)
    mean_fit = fit_temperature(1.7 * logits, targets)
    assert mean_fit == pytest.approx(1.7, rel=0.03)
    # What pooling the windows would say instead: each window alone is wrong far more often than it says.
    pooled = fit_temperature(1.7 * logits.reshape(-1, 6), np.repeat(targets, 4))
    assert pooled > 1.5 * mean_fit


def test_the_mean_over_ragged_windows_has_its_minimum_there():
    rng = np.random.default_rng(3)
    logits, targets = single_label_case(60, 4, seed=3, windows=9)
    files = [3 * file[: rng.integers(1, 10)] for file in logits]

    def nll(temperature):
        means = [softmax(file / temperature, axis=1).mean(axis=0) for file in files]
        return -np.mean([np.log(mean[target]) for mean, target in zip(means, targets, strict=True)])

    temperature = fit_temperature(files, targets)
    grid = np.geomspace(0.05, 50, 400)
    assert nll(temperature) <= min(map(nll, grid)) + 1e-12


def test_one_window_per_file_is_the_plain_case_in_every_form():
    logits, targets = single_label_case(50, 4, seed=4)
    plain = fit_temperature(logits, targets)
    assert fit_temperature(logits[:, None], targets) == plain
    assert fit_temperature(list(logits[:, None]), targets) == plain
    assert fit_temperature(logits.astype(np.float32), targets) == pytest.approx(plain, rel=1e-5)


def test_a_repeated_window_changes_nothing():
    logits, targets = single_label_case(50, 4, seed=5)
    repeated = fit_temperature(np.repeat(logits[:, None], 3, axis=1), targets)
    assert repeated == pytest.approx(fit_temperature(logits, targets), rel=1e-6)


@pytest.mark.parametrize("windows", [1, 3])
def test_multi_label_recovers_a_known_scale(windows):
    rng = np.random.default_rng(6)
    logits = 2 * rng.normal(size=(4000, windows, 5))
    targets = (rng.uniform(size=(4000, 5)) < expit(logits).mean(axis=1)).astype(np.float32)
    assert fit_temperature(0.4 * logits, targets, task="multi_label") == pytest.approx(0.4, rel=0.03)


def test_multi_label_equals_the_closed_form_of_one_confidence():
    # All logits are 3 where predicted true, -3 elsewhere, and right in 80 %: sigmoid(3 / T) = 0.8.
    targets = np.array([[1, 0]] * 8 + [[0, 1]] * 2)
    logits = np.tile([3.0, -3.0], (10, 1))
    assert fit_temperature(logits, targets, task="multi_label") == pytest.approx(3 / logit(0.8), rel=1e-6)


def test_huge_logits_do_not_overflow():
    logits, targets = single_label_case(100, 3, seed=7)
    assert fit_temperature(30 * logits, targets) == pytest.approx(
        30 * fit_temperature(logits, targets), rel=1e-6
    )
    with pytest.warns(UserWarning, match="highest temperature"):
        assert fit_temperature(1e30 * logits, targets) == 1


def test_order_of_files_does_not_matter():
    logits, targets = single_label_case(100, 3, seed=8, windows=2)
    order = np.random.default_rng(0).permutation(100)
    assert fit_temperature(logits[order], targets[order]) == pytest.approx(
        fit_temperature(logits, targets), rel=1e-6
    )


CLASSES = np.arange(12) % 3


@pytest.mark.parametrize(
    ("logits", "targets", "reason"),
    [
        (np.full((12, 3), 7.0), CLASSES, "all alike"),
        (10 * np.eye(3)[CLASSES], CLASSES, "without a mistake"),
        (10 * np.eye(3)[CLASSES], (CLASSES + 1) % 3, "no better than chance"),
    ],
)
def test_files_that_determine_no_temperature_leave_it_at_one(logits, targets, reason):
    with pytest.warns(UserWarning, match=reason):
        assert fit_temperature(logits, targets) == 1


GOOD = np.random.default_rng(9).normal(size=(12, 3))


def replaced(value):
    logits = GOOD.copy()
    logits[5, 1] = value
    return logits


@pytest.mark.parametrize(
    ("logits", "targets", "task", "message"),
    [
        (replaced(np.nan), CLASSES, "single_label", "finite; those of file 5"),
        (replaced(np.inf), CLASSES, "single_label", "finite; those of file 5"),
        (GOOD[:9], CLASSES[:9], "single_label", "at least 10 held-out files, better hundreds; got 9"),
        ([], [], "single_label", "got 0"),
        (GOOD, CLASSES + 1, "single_label", "0..2 for 3 classes; got 1..3"),
        (GOOD, CLASSES - 1, "single_label", "got -1..1"),
        (GOOD, CLASSES[:-1], "single_label", "shape (12,)"),
        (GOOD, np.eye(3)[CLASSES], "single_label", "argmax"),
        (GOOD, CLASSES.astype(float), "single_label", "must be integers"),
        (GOOD, CLASSES, "multi_label", "shape (12, 3)"),
        (GOOD, np.full((12, 3), 0.5), "multi_label", "0 or 1"),
        (GOOD, CLASSES, "multilabel", "`task` must be"),
        (GOOD[:, :1], CLASSES * 0, "single_label", "two classes"),
        ([*GOOD[:11], GOOD[11, :2]], CLASSES, "single_label", "file 11 are of shape (1, 2)"),
        ([*GOOD[:11], GOOD[:0]], CLASSES, "single_label", "file 11 are of shape (0, 3)"),
        (GOOD[:, None, None], CLASSES, "single_label", "file 0 are of shape (1, 1, 3)"),
    ],
)
def test_mistakes_are_named(logits, targets, task, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_temperature(logits, targets, task)
