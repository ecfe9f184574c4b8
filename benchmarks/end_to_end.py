"""File to tags: three-minute MP3s through whole models, beside the pipeline that one would write in PyTorch.

    python benchmarks/end_to_end.py
    python benchmarks/end_to_end.py --models resnet-fma --backends tensorflow onnx --files 8 --repeats 5
    python benchmarks/end_to_end.py --threads 1 --cpu-time

Ours: `classify_many` on each backend, and on onnxruntime (`onnx`) with the file that `music_zoo.export`
writes. The others take one file after another, as scripts do that were published with such networks:
`librosa.load`, then all windows of the file at once through the same network with the same weights in
PyTorch,

- `plain PyTorch`: eager, with `torch.stft` and a product with mel filters as front end;
- `torch.compile`: the same, compiled;
- `librosa`: as plain PyTorch, with `librosa.feature.melspectrogram` and `power_to_db` as front end.

All see the same windows, and must give the same probabilities before they are timed. Each pass takes all
files, which differ from each other, from the disk's cache. Processes take turns as in `forward.py`. `x NAME`
is how many times as fast as that pipeline: its time / this one's of the same round, median over rounds.
`decode alone` is what of the work no engine changes: `music_zoo.audio.load` of all files, in as many threads
as allowed. Peak memory is of the process, with all that it has imported and compiled.

A configuration instead of a preset (`musicnn-won`) has random weights, which take as long.
"""

import json
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import songs
import turns
from turns import BACKENDS, COMPILED, LIBROSA, ONNX, PYTORCH, Table, Workers, milliseconds, ratio, set_pass

from music_zoo.hub.sources import BUNDLED_PRESETS

DECODE = "decode alone"
REFERENCES = (PYTORCH, COMPILED, LIBROSA)
#: Presets, each with the configuration that stands in for it where it is not in the package.
PRESETS = {"resnet-fma": "resnet-compact", "s3t-swin-fma": "s3t-swin"}
MODELS = [name if (BUNDLED_PRESETS / name).is_dir() else config for name, config in PRESETS.items()]
LIMIT = 1e-3  # of a probability


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=[*MODELS, "musicnn-won"], metavar="NAME")
    parser.add_argument("--references", nargs="+", choices=REFERENCES, default=list(REFERENCES))
    parser.add_argument("--files", type=int, default=4, help="songs in a pass")
    parser.add_argument("--seconds", type=float, default=songs.SONG_SECONDS, help="length of a song")
    turns.add_options(parser, repeats=3, engines=(*BACKENDS, ONNX))
    options = turns.parse(parser)
    if ONNX in options.backends and not all(map(find_spec, ("tensorflow", "tf2onnx", "onnx"))):
        print("ONNX is left out: export needs TensorFlow, tf2onnx and onnx.\n")
        options.backends.remove(ONNX)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [songs.write(folder / f"{n}.mp3", options.seconds, n) for n in range(options.files)]
        speeds = [f"x {name}" for name in options.references]
        table = Table("model, pipeline", "ms per file", "x real time", *speeds, "peak MB", first=30)
        for name in options.models:
            results[name], versions = measure(name, folder, paths, options)
            for pipeline, *cells in rows(results[name], options):
                table.row(f"{name}, {pipeline}", *cells)
            if reason := results[name].get("not compiled"):
                print(f"\n{name} does not compile: {reason}\n")
    print(f"\n{options.files} files of {options.seconds:g} s. {turns.conditions(options)}")
    turns.write_json(options, versions=versions, models=results)


def rows(result: dict, options) -> list[list[str]]:
    """Return the rows of one model, the pipelines first."""
    seconds, lines = result["seconds"], []
    for name, times in seconds.items():
        each = [second / options.files for second in times]
        cells = [name, milliseconds(each, 0), f"{options.seconds / statistics.median(each):.0f}"]
        for reference in options.references:
            told = name != DECODE and reference in seconds
            cells.append(f"{ratio(seconds, reference, name):.2f}" if told else "")
        lines.append([*cells, f"{result['peak_megabytes'][name]:.0f}"])
    return lines


def measure(name: str, folder: Path, paths: list[Path], options) -> tuple[dict, dict]:
    """Return what was measured of one model, and the versions; exit where probabilities differ."""
    with Workers((next((b for b in BACKENDS if b in options.backends), "torch"),), options) as maker:
        (worker,) = maker.values()
        sample_rate = worker.submit(_make, name, folder, ONNX in options.backends).result()
    result, probabilities = {}, {}
    with Workers((*options.references, *options.backends, DECODE), options) as workers:
        for process, worker in list(workers.items()):
            prepared = worker.submit(_prepare, process, folder, paths, sample_rate, options.threads).result()
            if isinstance(prepared, str):
                result["not compiled"] = prepared
                workers.drop(process)
            elif process != DECODE:
                probabilities[process] = prepared
        first, expected = next(iter(probabilities.items()))
        for process, got in probabilities.items():
            difference = float(np.abs(got - expected).max())
            if not difference <= LIMIT:
                sys.exit(f"{name}: {process} gives other probabilities than {first}, by {difference:.1e}.")
        result["seconds"] = workers.seconds(options.repeats)
        result["peak_megabytes"] = workers.peaks()
        return result, workers.versions()


# ---- in the process that makes the files ------------------------------------------------------------------


def _make(name: str, folder: Path, with_onnx: bool) -> int:
    """Write a model as a preset, as an ONNX file and as a state dict of PyTorch; return its sample rate."""
    from check_reference import state_of

    import music_zoo
    from music_zoo.export import export

    known = music_zoo.list_models(pretrained=False)
    model = music_zoo.load(name, pretrained=False, num_classes=50) if name in known else music_zoo.load(name)
    if model.calibrator.kind != "temperature":
        raise ValueError(f"{name} is calibrated by {model.calibrator.kind}; the reference has a temperature.")
    model.save_preset(folder / "preset")
    state = state_of(model)
    np.savez(folder / "state.npz", **{key: value.numpy() for key, value in state.items()})
    temperature = float(np.array(model.calibrator.temperature))
    (folder / "reference.json").write_text(json.dumps(model.get_config() | {"temperature": temperature}))
    if with_onnx:
        export(model, folder / "model.onnx")
    return model.sample_rate


# ---- in the process that is measured -----------------------------------------------------------------------


def _prepare(
    process: str, folder: Path, paths: list[Path], sample_rate: int, threads: int
) -> np.ndarray | str:
    """Get ready; return the probabilities of each file, or why it cannot be."""
    if process == DECODE:
        run = _decode(sample_rate, threads)
    elif process in REFERENCES:
        run = _reference(process, folder)
        if process == COMPILED:
            try:
                run(paths[:1])
            except Exception as error:  # compilers fail in many ways
                return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    else:
        run = _ours(process, folder)
    found = run(paths)
    set_pass(lambda: run(paths), warm=False)
    return found


def _ours(engine: str, folder: Path) -> Callable[[list[Path]], np.ndarray]:
    import music_zoo

    if engine == ONNX:
        from music_zoo.onnx_model import OnnxModel

        model = OnnxModel(folder / "model.onnx")
    else:
        model = music_zoo.load(folder / "preset")
    return lambda paths: np.stack([result.probabilities for result in model.classify_many(paths)])


def _decode(sample_rate: int, threads: int) -> Callable[[list[Path]], None]:
    from music_zoo.audio import load

    def run(paths: list[Path]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda path: load(path, sample_rate), paths):
                pass

    return run


def _reference(kind: str, folder: Path) -> Callable[[list[Path]], np.ndarray]:
    """Return the pipeline in PyTorch, which imports nothing of ours."""
    import librosa
    import torch
    from reference_torch import build
    from reference_torch.front_end import FrontEnd, librosa_front_end

    config = json.loads((folder / "reference.json").read_text())
    network = build(config["backbone"], len(config["labels"]))
    with np.load(folder / "state.npz") as state:
        network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    sample_rate = config["front_end"]["sample_rate"]
    length, temperature = round(config["window"] * sample_rate), config["temperature"]
    activation = (lambda x: x.softmax(-1)) if config["task"] == "single_label" else torch.sigmoid
    front_end = (librosa_front_end if kind == LIBROSA else FrontEnd)(config["front_end"])

    def model(windows):
        return activation(network(front_end(windows)) / temperature)

    if kind == COMPILED:
        warnings.filterwarnings("ignore", message=".*complex operators.*")
        model = torch.compile(model)

    @torch.inference_mode()
    def classify(path: Path) -> np.ndarray:
        audio, _ = librosa.load(path, sr=sample_rate)
        starts = [*range(0, len(audio) - length, length), len(audio) - length]
        windows = torch.from_numpy(np.stack([audio[start : start + length] for start in starts]))
        return model(windows).mean(0).numpy()

    return lambda paths: np.stack([classify(path) for path in paths])


if __name__ == "__main__":
    main()
