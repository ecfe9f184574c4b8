"""Many files through one model: order, errors, batches, threads, memory; with a stand-in for the model."""

import subprocess
import sys
import threading
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from music_zoo import AudioError, inference
from music_zoo.audio import split
from music_zoo.inference import Cut, classify_together, infer, infer_together

RATE = 8000
WINDOW = 4000


class Statistics:
    """Takes windows as a Keras model does; gives mean, largest and last sample of each, remembers shapes."""

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, windows: np.ndarray) -> np.ndarray:
        self.shapes.append(windows.shape)
        return self.of(windows)

    @staticmethod
    def of(windows: np.ndarray) -> np.ndarray:
        return np.stack([windows.mean(axis=1), windows.max(axis=1), windows[:, -1]], axis=1)


def run(audios, model=None, hop=WINDOW, **options):
    return infer(model or Statistics(), audios, Cut(RATE, WINDOW, hop), **options)


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(inference, "BATCH_SAMPLES", 4 * WINDOW)


@pytest.fixture
def files(write_wav):
    """Seven recordings of 0.3 to 6.3 s, more than there are workers."""
    return [write_wav(f"{i}.wav", noise(0.3 + i, i)) for i in range(7)]


def expected(path, hop=WINDOW) -> tuple[np.ndarray, np.ndarray]:
    audio, _ = soundfile.read(path, dtype="float32")
    windows = list(split([audio], WINDOW, hop))
    return Statistics.of(np.stack([w.samples for w in windows])), np.array([w[:2] for w in windows]) / RATE


@pytest.mark.parametrize("hop", [WINDOW, 1500])
def test_batches_that_reach_across_files_change_nothing(small_batches, files, hop):
    model = Statistics()
    results = list(run(files, model, hop))
    assert [result.source for result in results] == [str(path) for path in files]
    for path, result in zip(files, results, strict=True):
        outputs, times = expected(path, hop)
        np.testing.assert_allclose(result.outputs, outputs, atol=1e-6)
        np.testing.assert_array_equal(result.times, times)
        assert result.duration == times[-1, 1]
    assert all(shape == (4, WINDOW) for shape in model.shapes[:-1])  # full but for the last


def test_models_that_listen_together_hear_what_each_hears_alone(small_batches, files, monkeypatch):
    opened, own = [], inference._open
    monkeypatch.setattr(inference, "_open", lambda audio, cut: opened.append(audio) or own(audio, cut))
    cuts = [Cut(RATE, WINDOW, 1500), Cut(RATE // 2, 700, 700), Cut(RATE, WINDOW // 3, 400)]
    files = [*files[:3], "missing.wav", *files[3:]]
    seconds = []
    models = [Statistics() for _ in cuts]
    together = list(infer_together(models, files, cuts, progress=seconds.append))
    assert len(opened) == len(files)
    assert isinstance(together.pop(3), AudioError)
    assert sum(seconds) == pytest.approx(sum(results[0].duration for results in together))
    del files[3]
    for number, cut in enumerate(cuts):
        alone = list(infer(Statistics(), files, cut))
        for mine, results in zip(alone, together, strict=True):
            np.testing.assert_allclose(results[number].outputs, mine.outputs, atol=1e-6)
            np.testing.assert_array_equal(results[number].times, mine.times)
            assert (results[number].source, results[number].notes) == (mine.source, mine.notes)


@pytest.mark.parametrize("wrong", [{"hop": 0.0}, {"hop": 2.0}, {"min_confidence": 1.5}])
def test_classifying_together_refuses_settings_before_it_decodes(wrong):
    model = SimpleNamespace(sample_rate=RATE, window=1.0, view=Statistics)
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must lie between 0 and"):
        classify_together([model], ["missing.wav"], **wrong)


def test_the_last_batch_is_filled_up_to_a_power_of_two(small_batches):
    for windows, sizes in ((1, [1]), (2, [2]), (3, [4]), (5, [4, 1])):
        model = Statistics()
        list(run([(noise(windows * WINDOW / RATE, 0), RATE)], model))
        assert [size for size, _ in model.shapes] == sizes


def test_a_window_longer_than_a_batch_is_one(monkeypatch):
    monkeypatch.setattr(inference, "BATCH_SAMPLES", WINDOW - 1)
    model = Statistics()
    list(run([(noise(2, 0), RATE)], model))
    assert set(model.shapes) == {(1, WINDOW)}


def test_errors_stay_in_place(small_batches, files, tmp_path, write_wav):
    text = tmp_path / "text.mp3"
    text.write_text("no audio")
    broken = np.append(noise(5, 0), np.nan)  # found only after some of its windows have gone through
    audios = [
        text,
        files[0],
        tmp_path / "none.wav",
        files[3],
        (broken, RATE),
        write_wav("nan.wav", broken),
        files[1],
    ]
    results = list(run(audios))
    assert [isinstance(result, AudioError) for result in results] == [
        True,
        False,
        True,
        False,
        True,
        True,
        False,
    ]
    for path, result in ((files[0], results[1]), (files[3], results[3]), (files[1], results[6])):
        np.testing.assert_allclose(result.outputs, expected(path)[0], atol=1e-6)
    assert "none.wav" in str(results[2]) and "nan.wav" in str(results[5])


def test_all_files_fail_or_there_are_none(tmp_path):
    results = list(run([tmp_path / f"{i}.wav" for i in range(5)]))
    assert all(isinstance(result, AudioError) for result in results) and len(results) == 5
    assert list(run([])) == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_inputs_are_asked_for_as_they_are_needed(small_batches, files, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    asked = []

    def audios():
        for path in [*files, *files]:
            asked.append(path)
            yield path

    results = run(audios())
    assert asked == []
    next(results)
    results.close()
    # The first of four windows a batch: files of 0.3, 1.3 and 2.3 s have 1, 3 and 5.
    assert len(asked) == 2 + threads - 1


def test_results_come_once_they_are_complete(small_batches, files):
    model = Statistics()
    results = run(files, model)
    next(results)
    assert len(model.shapes) == 1  # the first file is a part of the first batch
    results.close()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_stops_the_threads(small_batches, files, taken, monkeypatch):
    before = len(decoders())
    results = run(files)
    for _ in range(taken):
        next(results)
    results.close()
    assert len(decoders()) == before


def test_python_exits_though_results_are_left(files):
    script = f"""
from music_zoo.inference import Cut, infer
class Model:
    def predict_on_batch(self, windows):
        return windows
results = infer(Model(), {[str(path) for path in files]}, Cut({RATE}, 100, 100))
next(results)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_closing_early_does_not_decode_the_rest(monkeypatch, small_batches):
    decoded = 0

    def endless(audio, allow_truncated):
        def blocks():
            nonlocal decoded
            for _ in range(100_000):
                decoded += 1
                yield np.linspace(-0.5, 0.5, WINDOW, dtype=np.float32)

        return blocks(), RATE

    monkeypatch.setattr(inference, "_open", endless)
    progress = []

    def stop_soon(seconds):
        progress.append(seconds)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(["endless.wav"], progress=stop_soon))
    assert decoders() == []
    assert decoded < 100


def test_errors_that_are_no_fault_of_the_audio_come_out(monkeypatch, files):
    def defective(audio, allow_truncated):
        raise RuntimeError("a bug")

    monkeypatch.setattr(inference, "_open", defective)
    with pytest.raises(RuntimeError, match="a bug"):
        list(run(files))
    assert decoders() == []


def test_errors_of_the_model_come_out(files):
    class Defective:
        def predict_on_batch(self, windows):
            raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        list(run(files, Defective()))
    assert decoders() == []


@pytest.mark.parametrize("hop", [WINDOW, 1500])
def test_progress_adds_up_to_the_length_of_the_audio(small_batches, files, hop):
    seconds = []
    results = list(run(files, hop=hop, progress=seconds.append))
    assert sum(seconds) == pytest.approx(sum(result.duration for result in results), abs=1e-9)
    assert min(seconds) >= 0


@pytest.mark.parametrize("listeners", [1, 3])
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path, small_batches, listeners):
    whole = [(RATE, WINDOW), (RATE, 3 * WINDOW), (RATE // 2, 2 * WINDOW)]
    cuts = [Cut(rate, window, window) for rate, window in whole[:listeners]]

    def peak(minutes: int) -> int:
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for i in range(6 * minutes):
                file.write(noise(10, i))
        tracemalloc.start()
        ((result, *_),) = infer_together([Statistics() for _ in cuts], [path], cuts)
        assert len(result.outputs) == 120 * minutes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(1)  # what is imported and cached at first
    short, long = peak(1), peak(10)  # 1.9 and 19 MB of float32
    assert long < short + 1_000_000


def test_other_rates_are_resampled_and_low_ones_told():
    t = np.arange(3 * 44_100) / 44_100
    (high,) = run([(np.sin(2 * np.pi * 440 * t).astype(np.float32), 44_100)])
    assert high.duration == 3 and high.notes == ()
    (low,) = run([(noise(2, 0)[:6000], 3000)])
    assert low.duration == 2 and "recorded at 3000 Hz" in low.notes[0]
