"""The rules of windows: where they start, what covers the end, what fills a short signal, when they are."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from music_zoo.audio import Window, split, times
from music_zoo.errors import AudioError

properties = settings(max_examples=150, deadline=None, derandomize=True)
# Each sample is its own position, so that a window shows where it comes from.
sizes = st.integers(1, 120).flatmap(lambda window: st.tuples(st.just(window), st.integers(1, window)))


def positions(samples: int) -> np.ndarray:
    return np.arange(samples, dtype=np.float32)


@properties
@given(size=sizes, more=st.integers(0, 300))
def test_starts_count_and_cover(size, more):
    window, hop = size
    samples = window + more
    pieces = list(split([positions(samples)], window, hop))
    assert len(pieces) == 1 + math.ceil((samples - window) / hop)
    assert [piece.start for piece in pieces[:-1]] == [hop * i for i in range(len(pieces) - 1)]
    assert pieces[-1].stop == samples
    assert set(np.concatenate([piece.samples for piece in pieces])) == set(range(samples))
    for start, stop, shown in pieces:
        assert stop - start == window
        np.testing.assert_array_equal(shown, np.arange(start, stop))
        assert shown.dtype == np.float32


@properties
@given(size=sizes, missing=st.integers(1, 119))
def test_a_short_signal_is_repeated_or_followed_by_zeros(size, missing):
    window, hop = size
    samples = max(1, window - missing)
    assume(samples < window)
    (repeated,) = split([positions(samples)], window, hop)
    assert (repeated.start, repeated.stop) == (0, samples)
    np.testing.assert_array_equal(repeated.samples, np.arange(window) % samples)
    (padded,) = split([positions(samples)], window, hop, pad="zeros")
    assert (padded.start, padded.stop) == (0, samples)
    np.testing.assert_array_equal(padded.samples, np.pad(positions(samples), (0, window - samples)))


@properties
@given(blocks=st.lists(st.integers(0, 90), min_size=1, max_size=30), size=sizes)
def test_windows_do_not_depend_on_the_blocks(blocks, size):
    window, hop = size
    assume(sum(blocks))
    signal = positions(sum(blocks))
    whole = list(split([signal], window, hop))
    cut = list(split(np.split(signal, np.cumsum(blocks)[:-1]), window, hop))
    assert [piece[:2] for piece in cut] == [piece[:2] for piece in whole]
    np.testing.assert_array_equal([piece.samples for piece in cut], [piece.samples for piece in whole])


def test_windows_come_as_soon_as_they_are_complete_and_own_their_memory():
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield np.ones(10, np.float32)

    pieces = split(endless(), window=30, hop=10)
    first = next(pieces)
    assert len(taken) == 3
    first.samples[:] = 7
    assert (next(pieces).samples == 1).all()
    assert len(taken) == 4


def test_times_end_with_the_audio():
    pieces = list(split([positions(25_000)], 10_000, 10_000))
    np.testing.assert_array_equal(times(pieces, 10_000), [[0, 1], [1, 2], [1.5, 2.5]])
    np.testing.assert_array_equal(times(list(split([positions(2500)], 10_000, 5000)), 10_000), [[0, 0.25]])
    assert times([], 10_000).shape == (0, 2)
    assert times([Window(0, 1, positions(1))], 44100).dtype == np.float64


@pytest.mark.parametrize("blocks", [[], [positions(0)]])
def test_no_sample_at_all(blocks):
    with pytest.raises(AudioError, match="holds no sample"):
        list(split(blocks, 10, 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 10, "hop": 0}, "got hop=0 and window=10"),
        ({"window": 10, "hop": 11}, "got hop=11 and window=10"),
        ({"window": 0, "hop": 0}, "1 <= hop <= window"),
        ({"window": 10, "hop": 5, "pad": "mirror"}, "pad must be 'repeat' or 'zeros', got 'mirror'"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        next(split([positions(20)], **options))
