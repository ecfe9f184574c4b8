from fractions import Fraction
from math import floor

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_checks import run, run_traced

from music_zoo.layers import FrameSelection

pytestmark = pytest.mark.keras


def expected_frames(frames: int, n_frames: int, trim: int) -> list[int]:
    return [floor((i + Fraction(1, 2)) * (frames - trim) / n_frames) for i in range(n_frames)]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(kept=st.integers(1, 5000), n_frames=st.integers(1, 600), trim=st.integers(0, 5))
def test_keeps_exactly_the_stated_frames(kept, n_frames, trim):
    frames = kept + trim
    layer = FrameSelection(n_frames, trim)
    assert layer.compute_output_shape((None, 7, frames)) == (None, 7, n_frames)
    actual = run(layer, np.arange(frames)[None, None])
    assert actual[0, 0].astype(int).tolist() == expected_frames(frames, n_frames, trim)


@pytest.mark.parametrize("length", [None, 1291])
def test_traced_with_known_and_unknown_number_of_frames(length):
    layer = FrameSelection(387, trim=2)
    assert layer(keras.Input((128, length))).shape == (None, 128, 387)
    values = np.tile(np.arange(1291, dtype="float32"), (2, 3, 1))
    actual = run_traced(layer, values, length)
    assert actual[1, 2].astype(int).tolist() == expected_frames(1291, 387, 2)


def test_does_not_overflow_on_hours_of_audio():
    frames, n_frames = 3_000_000, 1024  # their product needs more than 32 bits
    actual = run(FrameSelection(n_frames), np.arange(frames)[None])
    assert actual[0].astype(int).tolist() == expected_frames(frames, n_frames, 0)


def test_nothing_left_to_select_from_is_an_error():
    with pytest.raises(ValueError, match="at least 3 frames to trim 2, got 2"):
        FrameSelection(8, trim=2)(np.ones((1, 4, 2), "float32"))


@pytest.mark.parametrize("options", [{"n_frames": 0}, {"n_frames": 4, "trim": -1}])
def test_wrong_arguments(options):
    with pytest.raises(ValueError, match="n_frames must be at least 1 and trim at least 0"):
        FrameSelection(**options)
