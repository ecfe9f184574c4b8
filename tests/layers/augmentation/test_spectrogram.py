import keras
import numpy as np
import pytest
import scipy.stats
from augmentation_checks import applied, called, called_compiled, check_restored, drawn, from_own_config

from music_zoo.layers.augmentation import (
    EqualizerTilt,
    FrequencyMasking,
    Gain,
    LogMelMixup,
    RandomResizedCrop,
    TimeMasking,
    TimeWarping,
)

pytestmark = pytest.mark.keras

BANDS, FRAMES = 16, 30
IMAGES = np.random.default_rng(0).uniform(size=(5, BANDS, FRAMES)).astype("float32")
MANY = np.zeros((4000, BANDS, FRAMES), "float32")
LAYERS = [
    RandomResizedCrop((0.5, 0.9), (0.6, 1.0), seed=1),
    TimeWarping(5, seed=2),
    TimeMasking(8, 2, seed=3),
    FrequencyMasking(4, 2, fill=0.25, seed=4),
    Gain(0.1, seed=5),
    EqualizerTilt(0.05, 4, seed=6),
    LogMelMixup(0.4, 60.0, seed=7),
]
EACH = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)


def is_uniform(values, low, high) -> bool:
    inside = values.min() >= low and values.max() <= high
    return inside and scipy.stats.kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3


def is_normal(values, mean, std) -> bool:
    return scipy.stats.kstest(values, "norm", args=(mean, std)).pvalue > 1e-3


# ---- each layer by itself ----------------------------------------------------------------------------------


def test_resized_crop_interpolates_its_part():
    rng = np.random.default_rng(1)
    parameters = {
        "time_share": rng.uniform(0.3, 1, 5),
        "time_place": np.array([0, 1, 0.5, 0.2, 0.9]),
        "frequency_share": rng.uniform(0.3, 1, 5),
        "frequency_place": np.array([1, 0, 0.3, 0.6, 0.1]),
    }
    actual = applied(RandomResizedCrop((0.3, 1), (0.3, 1)), IMAGES, **parameters)
    for i, image in enumerate(IMAGES):
        frame, band = (
            (place[i] * (1 - share[i]) + share[i] * np.linspace(0, 1, size)) * (size - 1)
            for size, place, share in (
                (FRAMES, parameters["time_place"], parameters["time_share"]),
                (BANDS, parameters["frequency_place"], parameters["frequency_share"]),
            )
        )
        stretched = np.stack([np.interp(frame, np.arange(FRAMES), row) for row in image])
        expected = np.stack([np.interp(band, np.arange(BANDS), column) for column in stretched.T]).T
        np.testing.assert_allclose(actual[i], expected, atol=2e-5)


def test_resized_crop_of_everything_changes_nothing():
    ones, any_place = np.ones(5), np.linspace(0, 1, 5)
    actual = applied(
        RandomResizedCrop(),
        IMAGES,
        time_share=ones,
        time_place=any_place,
        frequency_share=ones,
        frequency_place=any_place,
    )
    np.testing.assert_array_equal(actual, IMAGES)


def test_resized_crop_of_one_axis_leaves_the_other():
    along_time = np.tile(np.arange(FRAMES, dtype="float32"), (2, BANDS, 1))
    np.testing.assert_array_equal(called(RandomResizedCrop((1, 1), (0.4, 0.8)), along_time), along_time)
    along_bands = np.tile(np.arange(BANDS, dtype="float32")[:, None], (2, 1, FRAMES))
    np.testing.assert_array_equal(called(RandomResizedCrop((0.4, 0.8), (1, 1)), along_bands), along_bands)


def test_resized_crop_draws():
    parameters = drawn(RandomResizedCrop((0.6, 0.9), (0.5, 1), seed=1), MANY)
    assert is_uniform(parameters["time_share"], 0.6, 0.9)
    assert is_uniform(parameters["frequency_share"], 0.5, 1)
    assert is_uniform(parameters["time_place"], 0, 1)
    assert is_uniform(parameters["frequency_place"], 0, 1)


@pytest.mark.parametrize("masking", [TimeMasking, FrequencyMasking])
@pytest.mark.parametrize("fill", ["mean", 0.25])
def test_masking_blanks_its_stretches(masking, fill):
    start = np.array([[0, 5], [3, 4], [8, 0], [2, 2], [11, 6]])
    width = np.array([[2, 3], [4, 4], [4, 0], [0, 0], [1, 6]])
    expected = IMAGES.copy()
    for image, starts, widths in zip(expected, start, width, strict=True):
        blank = image.mean() if fill == "mean" else fill
        for first, count in zip(starts, widths, strict=True):
            stretch = slice(first, first + count)
            image[(slice(None), stretch) if masking is TimeMasking else stretch] = blank
    actual = applied(masking(6, 2, fill), IMAGES, start=start, width=width)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize(("masking", "size"), [(TimeMasking, FRAMES), (FrequencyMasking, BANDS)])
def test_masking_draws(masking, size):
    stretches = drawn(masking(4, 3, seed=1), MANY)
    start, width = stretches["start"], stretches["width"]
    assert start.shape == width.shape == (len(MANY), 3)
    assert scipy.stats.chisquare(np.bincount(width.ravel(), minlength=5)).pvalue > 1e-3
    assert len(np.bincount(width.ravel())) == 5
    for drawn_width in range(5):
        counts = np.bincount(start[width == drawn_width])
        assert len(counts) == size - drawn_width + 1  # the last place ends with the image
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_masking_may_be_as_wide_as_the_image():
    assert np.isfinite(called(TimeMasking(FRAMES), IMAGES)).all()
    with pytest.raises(ValueError, match=r"blanks up to 31, got inputs of shape \(5, 16, 30\) with only 30"):
        called(TimeMasking(FRAMES + 1), IMAGES)


def test_gain():
    gain = np.array([0.5, 1, 1.5, 2, 0])
    expected = IMAGES * gain[:, None, None]
    np.testing.assert_allclose(applied(Gain(0.1), IMAGES, gain=gain), expected, atol=1e-6)
    assert is_normal(drawn(Gain(0.1, seed=1), MANY)["gain"], 1, 0.1)


def test_equalizer_tilt():
    offsets = np.random.default_rng(2).normal(size=(5, 4))
    at = np.linspace(0, 3, BANDS)
    curves = np.stack([np.interp(at, np.arange(4), points) for points in offsets])
    actual = applied(EqualizerTilt(1.0, 4), IMAGES, offsets=offsets)
    np.testing.assert_allclose(actual, IMAGES + curves[..., None], atol=1e-6)
    offsets = drawn(EqualizerTilt(0.05, 4, seed=1), MANY)["offsets"]
    assert is_normal(offsets.ravel(), 0, 0.05)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(4)).max() < 0.06


def test_mixup_adds_powers():
    partner, share = np.array([1, 2, 0, 3, 4]), np.array([0, 0.4, 1, 0.3, 0.2])
    actual = applied(LogMelMixup(1.0, 60.0), IMAGES, partner=partner, share=share)
    power = 10 ** (6 * IMAGES.astype("float64"))
    share = share[:, None, None]
    expected = np.log10((1 - share) * power + share * power[partner]) / 6
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    np.testing.assert_allclose(
        actual[[0, 2]], IMAGES[[0, 0]], atol=1e-6
    )  # nothing, and everything of another
    np.testing.assert_allclose(actual[3:], IMAGES[3:], atol=1e-6)  # met themselves


def test_mixup_draws():
    parameters = drawn(LogMelMixup(0.4, seed=1), MANY)
    assert is_uniform(parameters["share"], 0, 0.4)
    assert sorted(parameters["partner"]) == list(range(len(MANY)))
    assert np.abs(np.corrcoef(parameters["partner"], np.arange(len(MANY)))[0, 1]) < 0.06


def test_warping_moves_the_point_and_keeps_the_ends():
    point, shift = np.array([5.0, 10, 20, 24, 5]), np.array([5.0, -3, 0, 5, -5])
    actual = applied(TimeWarping(5), IMAGES, point=point, shift=shift)
    for i, image in enumerate(IMAGES):
        moved = point[i] + shift[i]
        if 0 < moved < FRAMES - 1:
            source = np.interp(np.arange(FRAMES), [0, moved, FRAMES - 1], [0, point[i], FRAMES - 1])
        elif moved == 0:  # all that was before the point is gone
            source = np.r_[0, np.interp(np.arange(1, FRAMES), [0, FRAMES - 1], [point[i], FRAMES - 1])]
        else:
            source = np.interp(np.arange(FRAMES), [0, FRAMES - 1], [0, point[i]])
        expected = np.stack([np.interp(source, np.arange(FRAMES), row) for row in image])
        np.testing.assert_allclose(actual[i], expected, atol=2e-5)


def test_warping_draws():
    parameters = drawn(TimeWarping(5, seed=1), MANY)
    assert is_uniform(parameters["point"], 5, FRAMES - 1 - 5)
    assert is_uniform(parameters["shift"], -5, 5)
    with pytest.raises(
        ValueError, match="needs more than 31 frames to move a point by 15, got inputs of shape"
    ):
        called(TimeWarping(15), IMAGES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop((0, 1)), "`scale_time` must be .* 0 < low <= high <= 1, got .0, 1."),
        (lambda: RandomResizedCrop(scale_frequency=(0.9, 0.8)), "`scale_frequency` must be .*got .0.9, 0.8."),
        (lambda: RandomResizedCrop((0.6, 1.5)), "`scale_time` must be"),
        (lambda: TimeMasking(-1), "TimeMasking: `max_width` must be at least 0 .* got max_width=-1"),
        (lambda: FrequencyMasking(4, 0), "FrequencyMasking: .*`count` at least 1, got .*count=0"),
        (lambda: TimeMasking(4, fill="median"), "`fill` must be \"mean\" or a number, got 'median'"),
        (lambda: Gain(-0.1), "Gain: `std` must be at least 0, got -0.1"),
        (lambda: EqualizerTilt(-0.1), "EqualizerTilt: `std` must be at least 0, got -0.1"),
        (lambda: EqualizerTilt(points=1), "at least 2 points, got points=1"),
        (lambda: LogMelMixup(1.1), "`max_share` must be from 0 to 1 .*got max_share=1.1"),
        (lambda: LogMelMixup(0.1, 0), "`decibels` above 0, got .*decibels=0"),
        (lambda: TimeWarping(-1), "`max_shift` must be at least 0, got -1"),
        (lambda: Gain(probability=1.1), "Gain: `probability` lies between 0 and 1, got 1.1"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- what all have in common -------------------------------------------------------------------------------


@EACH
def test_changes_only_while_training(layer):
    for training in (None, False):
        np.testing.assert_array_equal(called(layer, IMAGES, training), IMAGES)
    assert np.abs(called(layer, IMAGES) - IMAGES).max() > 0.01


@EACH
def test_probability_picks_examples(layer):
    config = layer.get_config() | {"probability": 0.4}
    some = type(layer).from_config(config)
    changed = np.stack([(called(some, IMAGES) != IMAGES).any(axis=(1, 2)) for _ in range(40)])
    # Some that were picked are the same by chance: masks of no width, examples that met themselves.
    assert 0.2 < changed.mean() < 0.5
    assert 0 < np.mean(changed.any(axis=1) & ~changed.all(axis=1))
    none = type(layer).from_config(config | {"probability": 0.0})
    np.testing.assert_array_equal(called(none, IMAGES), IMAGES)


@EACH
def test_silence_stays_finite(layer):
    for inputs in (np.zeros_like(IMAGES), np.ones_like(IMAGES)):
        assert np.isfinite(called(layer, inputs)).all()


@EACH
def test_float32_under_mixed_precision(layer):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        output = from_own_config(layer)(keras.ops.convert_to_tensor(IMAGES), training=True)
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"


@EACH
def test_compiled_with_batches_of_any_size(layer):
    eager = from_own_config(layer)
    batches = [IMAGES, IMAGES[:3], IMAGES]
    whole, part, again = called_compiled(from_own_config(layer), batches)
    for compiled, batch in zip((whole, part, again), batches, strict=True):
        np.testing.assert_allclose(compiled, called(eager, batch), atol=1e-5)
    assert np.abs(whole - again).max() > 0.01


@EACH
def test_works_on_images_of_unknown_length(layer):
    inputs = keras.Input((BANDS, None))
    outputs = layer(inputs)
    assert outputs.shape == (None, BANDS, None)
    actual = keras.Model(inputs, outputs)(keras.ops.convert_to_tensor(IMAGES), training=True)
    assert actual.shape == IMAGES.shape


@EACH
def test_saved_and_restored(layer, tmp_path):
    check_restored(layer, IMAGES, tmp_path / "state.weights.h5")
