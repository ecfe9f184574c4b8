import keras
import numpy as np
import pytest
import scipy.stats
from augmentation_checks import (
    all_equal,
    applied,
    called,
    called_compiled,
    check_restored,
    drawn,
    from_own_config,
)

from music_zoo.layers.augmentation import RandomCrop, TwoSegments

pytestmark = pytest.mark.keras

RNG = np.random.default_rng(0)
WAVEFORMS = RNG.normal(size=(4, 50)).astype("float32")
IMAGES = RNG.normal(size=(4, 3, 50)).astype("float32")
BOTH_KINDS = pytest.mark.parametrize("inputs", [WAVEFORMS, IMAGES], ids=["waveforms", "images"])


@BOTH_KINDS
def test_crop_cuts_from_start_on(inputs):
    start = np.array([0, 41, 7, 20])
    expected = np.stack([example[..., s : s + 9] for example, s in zip(inputs, start, strict=True)])
    np.testing.assert_array_equal(applied(RandomCrop(9), inputs, start=start), expected)


@BOTH_KINDS
def test_crop_of_the_middle_when_not_training(inputs):
    for training in (None, False):
        np.testing.assert_array_equal(called(RandomCrop(9), inputs, training), inputs[..., 20:29])


def test_every_place_of_a_crop_is_equally_likely():
    start = drawn(RandomCrop(41, seed=1), np.zeros((5000, 50)))["start"]
    counts = np.bincount(start)
    assert len(counts) == 10
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_a_crop_as_long_as_the_input_is_the_input():
    np.testing.assert_array_equal(called(RandomCrop(50), IMAGES), IMAGES)


@BOTH_KINDS
def test_two_segments_are_cut_where_they_start(inputs):
    first, second = np.array([0, 41, 7, 20]), np.array([10, 0, 7, 41])
    actual = applied(TwoSegments(9), inputs, first=first, second=second)
    for segments, starts in zip(actual, (first, second), strict=True):
        expected = [example[..., s : s + 9] for example, s in zip(inputs, starts, strict=True)]
        np.testing.assert_array_equal(segments, expected)


@BOTH_KINDS
def test_first_and_last_segment_when_not_training(inputs):
    first, last = called(TwoSegments(9, min_distance=5), inputs, training=False)
    np.testing.assert_array_equal(first, inputs[..., :9])
    np.testing.assert_array_equal(last, inputs[..., -9:])


@pytest.mark.parametrize("min_distance", [0, 4, -3])
def test_every_allowed_pair_is_equally_likely(min_distance):
    length, total = 8, 2 * 8 + min_distance + 3  # room to move by 3
    pairs = drawn(TwoSegments(length, min_distance, seed=1), np.zeros((10_000, total)))
    pairs = np.stack([pairs["first"], pairs["second"]], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    starts = range(total - length + 1)
    allowed = [[a, b] for a in starts for b in starts if abs(a - b) >= length + min_distance]
    assert found.tolist() == allowed
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_the_same_segment_twice_where_everything_may_overlap():
    first, second = called(TwoSegments(50, min_distance=-50), IMAGES)
    np.testing.assert_array_equal(first, IMAGES)
    np.testing.assert_array_equal(second, IMAGES)


def test_distance_holds_on_waveforms_of_minutes():
    layer = TwoSegments(64_000, 64_000, seed=2)
    waveforms = np.zeros((10, 480_000), "float32")
    pairs = [drawn(layer, waveforms) for _ in range(20)]
    first, second = (np.concatenate([pair[name] for pair in pairs]) for name in ("first", "second"))
    assert (np.abs(first - second) - 64_000).min() >= 64_000
    assert min(first.min(), second.min()) >= 0
    assert max(first.max(), second.max()) <= 480_000 - 64_000
    assert 0.4 < np.mean(first < second) < 0.6


@pytest.mark.parametrize(
    ("layer", "needed"), [(RandomCrop(51), 51), (TwoSegments(20, 11), 51)], ids=["crop", "two"]
)
@BOTH_KINDS
def test_short_inputs_are_an_error(layer, needed, inputs):
    expected = f"needs at least {needed} samples or frames, got inputs of shape .*50.*; give it longer tracks"
    for training in (True, False):
        with pytest.raises(ValueError, match=expected):
            called(layer, inputs, training)
    with pytest.raises(ValueError, match=expected):
        layer(keras.Input(inputs.shape[1:]))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="RandomCrop: `length` must be at least 1, got 0"):
        RandomCrop(0)
    with pytest.raises(ValueError, match="`min_distance` must be at least -8, got -9"):
        TwoSegments(8, -9)


LAYERS = [RandomCrop(9, seed=1), TwoSegments(9, 4, seed=2)]
EACH = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)


@EACH
def test_shapes_are_known_before_the_call(layer):
    outputs = keras.tree.flatten(layer(keras.Input((3, 50))))
    assert [output.shape for output in outputs] == [(None, 3, 9)] * len(outputs)
    outputs = keras.tree.flatten(layer(keras.Input((None,))))
    assert [output.shape for output in outputs] == [(None, 9)] * len(outputs)


@EACH
@BOTH_KINDS
def test_compiled_with_batches_of_any_size(layer, inputs):
    whole, part, again = called_compiled(from_own_config(layer), [inputs, inputs[:3], inputs])
    for outputs, examples in ((whole, 4), (part, 3)):
        for segments in keras.tree.flatten(outputs):
            assert segments.shape == (examples, *inputs.shape[1:-1], 9)
    assert not all_equal(whole, again)


@EACH
def test_saved_and_restored(layer, tmp_path):
    check_restored(layer, IMAGES, tmp_path / "state.weights.h5")
