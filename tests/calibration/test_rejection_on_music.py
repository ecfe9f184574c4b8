"""The guarantees of rejection and label sets on real music, by resampling a validation split."""

import numpy as np
import pytest

import music_zoo
from music_zoo.calibration import conformal_threshold, label_sets, reject_threshold
from music_zoo.datasets import open_dataset
from music_zoo.evaluation.split_outputs import split_outputs

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def validation(shared_data):
    """Probabilities of FMA-small's validation split by `resnet-fma`, and targets."""
    dataset = open_dataset(shared_data / "data" / "fma-small-logmel")
    found = split_outputs(music_zoo.load("resnet-fma"), dataset, "validation")
    return found.means, found.targets


@pytest.mark.parametrize("max_error", [0.25, 0.3, 0.4])
def test_the_target_is_met_in_95_of_100_resamplings(validation, max_error):
    # The split stands for all music: files are drawn from it, and the true error is that over all of it.
    probabilities, targets = validation
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != targets
    rng = np.random.default_rng(0)
    met, accepted = 0, []
    for _ in range(100):
        drawn = rng.integers(len(targets), size=len(targets))
        try:
            found = reject_threshold(probabilities[drawn], targets[drawn], max_error)
        except ValueError:  # abstains of everything
            met += 1
            continue
        accepted.append(found.coverage)
        met += wrong[confidence >= found.min_confidence].mean() <= max_error
    assert met >= 95
    assert len(accepted) >= 90
    assert np.mean(accepted) > {0.25: 0.25, 0.3: 0.4, 0.4: 0.7}[max_error]


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_from_one_half_cover_the_other_as_asked(validation, method, coverage):
    probabilities, targets = validation
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        one, other = np.array_split(rng.permutation(len(targets)), 2)
        threshold = conformal_threshold(probabilities[one], targets[one], coverage, method)
        sets = label_sets(probabilities[other], threshold, method)
        covered.append(sets[np.arange(len(other)), targets[other]].mean())
    within = 3 * np.std(covered) / 10
    assert np.mean(covered) >= coverage - within
    if method == "lac":
        assert np.mean(covered) <= coverage + 1 / (len(targets) / 2 + 1) + within
