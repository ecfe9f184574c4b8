"""Front ends, from waveform to what a network sees, beside `torch.stft` and beside librosa.

    python benchmarks/front_end.py
    python benchmarks/front_end.py --settings resnet-fma --backends tensorflow onnx --batch 1
    python benchmarks/front_end.py --check

Ours run as the package runs them: compiled or not as the classifier with this front end is on that backend;
`onnx` is the front end alone, in the form and with the opset of `music_zoo.export`, in onnxruntime. Plain
PyTorch is `torch.stft` and a product with the mel filters, eager; librosa is `librosa.feature.melspectrogram`
and `power_to_db`, one clip after another. Batches of 30-second clips as NumPy arrays, all with the same
result, which is checked before timing. Processes take turns as in `forward.py`; a ratio is a time / plain
PyTorch's of the same round, the median over rounds. `share`: the rate of plain PyTorch as a share of that of
large matrix products, counting 2.5 n log2(n) operations for each frame's FFT and all of the mel product, of
the frames used alone.
"""

import math
import statistics
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import songs
import turns
from limits import matrix_gflops
from turns import BACKENDS, LIBROSA, ONNX, PYTORCH, Table, Workers, milliseconds, ratio, set_pass

SECONDS = 30
FFT = "FFT alone"
FFT_BLOCK = 1 << 18  # samples that are transformed at once
LIMIT = 2e-5  # of the range of features


@dataclass(frozen=True)
class Setting:
    """A front end, and a named config or bundled preset whose network says how it is compiled."""

    name: str
    front_end: dict | None = None


def _librosa_like(sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> dict:
    mel = {"sample_rate": sample_rate, "n_fft": n_fft, "n_mels": n_mels}
    return {
        "sample_rate": sample_rate,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": n_fft, "hop_length": hop_length}},
            {"layer": "MelFilterBank", "config": mel},
            {"layer": "Decibels", "config": {"ref": "max", "top_db": 80.0}},
        ],
    }


SETTINGS = {
    "16 kHz, 512/256, 96 mels": Setting("musicnn-won", _librosa_like(16_000, 512, 256, 96)),
    "22.05 kHz, 2048/512, 128 mels": Setting("resnet-compact", _librosa_like(22_050, 2048, 512, 128)),
    "resnet-fma": Setting("resnet-fma"),
}


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--batch", type=int, default=8, help="clips of 30 s in a pass")
    turns.add_options(parser, repeats=7, engines=(*BACKENDS, ONNX))
    turns.add_check(parser)
    options = turns.parse(parser)
    if ONNX in options.backends and not all(map(find_spec, ("tensorflow", "tf2onnx"))):
        print("ONNX is left out: it is made with TensorFlow and tf2onnx.\n")
        options.backends.remove(ONNX)
    others = [*options.backends, LIBROSA, FFT]
    results = {}
    with tempfile.TemporaryDirectory() as folder, Workers((PYTORCH, *others), options) as workers:
        rate = max(
            worker.submit(matrix_gflops, name).result()
            for name, worker in workers.items()
            if name in (PYTORCH, *BACKENDS)
        )
        columns = [column for name in others for column in (f"{name}, ms", "ratio")]
        table = Table("front end", f"{PYTORCH}, ms", "x real time", "share", *columns, first=30)
        for name in options.settings:
            gflop = prepare(SETTINGS[name], Path(folder), workers, options)
            if options.check:
                continue
            seconds = workers.seconds(options.repeats)
            share = gflop / statistics.median(seconds[PYTORCH]) / rate
            results[name] = {"gflop": gflop, "share": share, "seconds": seconds}
            speed = options.batch * SECONDS / statistics.median(seconds[PYTORCH])
            cells = [milliseconds(seconds[PYTORCH]), f"{speed:.0f}", f"{share:.3f}"]
            for other in others:
                cells += [milliseconds(seconds[other]), f"{ratio(seconds, other, PYTORCH):.2f}"]
            table.row(name, *cells)
        versions = workers.versions()
    if not options.check:
        print(f"\nBatches of {options.batch} clips of {SECONDS} s. {turns.conditions(options)}")
        print(f"Products of 2048x2048 matrices at {rate:.0f} GFLOP/s (share 1).")
        turns.write_json(options, versions=versions, matrix_gflops=rate, front_ends=results)


def prepare(setting: Setting, folder: Path, workers: Workers, options) -> float:
    """Get all processes ready, or exit where their features differ; return the GFLOP of a batch."""
    with Workers(("tensorflow" if ONNX in options.backends else "torch",), options) as maker:
        (worker,) = maker.values()
        config = worker.submit(_make, setting, folder, ONNX in options.backends).result()
    gflop, expected = workers[PYTORCH].submit(_prepare, PYTORCH, setting, config, folder, options).result()
    workers[FFT].submit(_prepare_fft, config, options).result()
    for name, worker in workers.items():
        if name not in (PYTORCH, FFT):
            _, features = worker.submit(_prepare, name, setting, config, folder, options).result()
            difference = np.abs(features - expected).max() / np.ptp(expected)
            if not difference <= LIMIT:
                sys.exit(f"{setting}: {name} differs from plain PyTorch by {difference:.1e} of the range.")
    return gflop


# ---- in the process that is measured -----------------------------------------------------------------------


def _classifier(setting: Setting):
    import music_zoo
    from music_zoo.classifier import Classifier
    from music_zoo.models import named_configs

    if setting.name not in named_configs():
        return music_zoo.load(setting.name)
    own = {"front_end": setting.front_end, "window": SECONDS, "labels": ["a", "b"]}
    return Classifier.from_config(named_configs()[setting.name] | own)


def _make(setting: Setting, folder: Path, with_onnx: bool) -> dict:
    """Return the front end's config; write it as ONNX."""
    import keras

    front_end = _classifier(setting).front_end
    if with_onnx:
        from music_zoo.export import OPSET

        waveform = keras.Input((SECONDS * front_end.sample_rate,), name="waveform")
        model = keras.Model(waveform, front_end.with_method("conv")(waveform))
        model(np.zeros((1, *waveform.shape[1:]), np.float32))  # Keras exports what has been called
        model.export(folder / "front_end.onnx", format="onnx", verbose=False, opset_version=OPSET)
    return front_end.get_config()


def _prepare(process: str, setting: Setting, config: dict, folder: Path, options) -> tuple[float, np.ndarray]:
    """Get ready; return the GFLOP of a batch if this is plain PyTorch, and the features of one clip."""
    clips = _clips(config["sample_rate"], options.batch)
    run, gflop = _front_end(process, setting, config, folder), 0.0
    if process == PYTORCH:
        gflop = options.batch * _gflop(config)
    features = run(clips)[0]
    if not options.check:
        set_pass(lambda: run(clips))
    return gflop, features


def _clips(rate: int, count: int) -> np.ndarray:
    """Return clips of a song, `(count, samples)` float32."""
    song = songs.song(SECONDS)[:, 0]
    clip = np.interp(np.arange(SECONDS * rate) * songs.SAMPLE_RATE / rate, np.arange(len(song)), song)
    return np.stack([np.roll(clip, 1000 * n) for n in range(count)]).astype(np.float32)


def _prepare_fft(config: dict, options) -> None:
    """Get ready to transform all frames of the clips."""
    import torch

    stft = config["layers"][0]["config"]
    n_fft, hop = stft["n_fft"], stft["hop_length"]
    clips = torch.from_numpy(_clips(config["sample_rate"], options.batch))
    frames = torch.nn.functional.pad(clips, (n_fft // 2, n_fft // 2)).unfold(1, n_fft, hop)
    blocks = (frames * torch.hann_window(n_fft)).flatten(0, 1).split(FFT_BLOCK // n_fft)

    def run() -> None:
        for block in blocks:
            torch.fft.rfft(block)

    if not options.check:
        set_pass(run)


def _gflop(config: dict) -> float:
    """Return the operations that one clip cannot do without, in 10^9."""
    from reference_torch.front_end import used_frames

    stft, mel = config["layers"][0]["config"], config["layers"][1]["config"]
    n_fft, bins = stft["n_fft"], stft["n_fft"] // 2 + 1
    frames = used_frames(config, SECONDS * config["sample_rate"])
    return frames * (2.5 * n_fft * math.log2(n_fft) + 2 * bins * mel["n_mels"]) / 1e9


def _front_end(process: str, setting: Setting, config: dict, folder: Path):
    """Return a function from clips to features."""
    if process == ONNX:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "front_end.onnx")
        (start,) = session.get_inputs()
        return lambda clips: session.run(None, {start.name: clips})[0]
    if process in BACKENDS:
        import keras

        keras.utils.clear_session()
        return _classifier(setting).view("waveform", "features").predict_on_batch
    import torch
    from reference_torch.front_end import FrontEnd, librosa_front_end

    front_end = FrontEnd(config) if process == PYTORCH else librosa_front_end(config)

    @torch.inference_mode()
    def run(clips: np.ndarray) -> np.ndarray:
        return front_end(torch.from_numpy(clips)).numpy()

    return run


if __name__ == "__main__":
    main()
