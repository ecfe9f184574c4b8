"""Golden tensors notice what changes a classifier."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from small import small_classifier as build

from music_zoo import PresetError
from music_zoo.golden import check_golden, golden_waveform, make_golden

pytestmark = pytest.mark.keras


def test_golden_check_notices_one_altered_weight(small_classifier):
    golden = make_golden(small_classifier)
    assert golden["waveform"].dtype == np.int16
    assert (golden["embedding"].shape, golden["probabilities"].shape) == ((1, 8), (1, 3))
    check_golden(small_classifier, golden)
    altered = build()
    tensors = altered.tensors()
    tensors["backbone.stem_conv.kernel"][0, 0, 0, 0] += 0.5
    altered.set_tensors(tensors)
    with pytest.raises(PresetError, match="the embedding of the golden input differs by"):
        check_golden(altered, golden)
    tensors = build().tensors()
    tensors["calibrator.temperature"] *= np.float32(1.01)
    altered.set_tensors(tensors)
    with pytest.raises(PresetError, match="the probabilities of the golden input differ"):
        check_golden(altered, golden)


def test_golden_check_refuses_other_shapes_and_missing_tensors(small_classifier):
    golden = make_golden(small_classifier)
    with pytest.raises(PresetError, match="differs by inf"):
        check_golden(small_classifier, golden | {"probabilities": np.zeros((1, 2))})
    with pytest.raises(PresetError, match="lack embedding, waveform"):
        check_golden(small_classifier, {"probabilities": golden["probabilities"]})


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_golden_waveform_is_two_loud_seconds_that_never_change(sample_rate):
    waveform = golden_waveform(sample_rate)
    assert waveform.shape == (2 * sample_rate,) and waveform.dtype == np.int16
    assert np.abs(waveform).max() > 8000
    assert_array_equal(waveform, golden_waveform(sample_rate))
