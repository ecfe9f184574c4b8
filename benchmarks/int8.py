"""ONNX files in 8-bit integers beside those in floats: how fast they are, and how far their probabilities.

    python benchmarks/int8.py
    python benchmarks/int8.py --models musicnn-pons-mtat --music ~/music
    python benchmarks/int8.py --models resnet-nsynth clmr-samplecnn-nsynth --notes nsynth-test

Each model is exported, then quantized by `music_zoo.quantization` on the music; windows of half a minute in
all go through both files in turns. `ratio` is the time in 8 bits / that in floats of the same round, median;
below 1 the integers are faster. `mean` and `largest` are differences of probabilities, `same` the share of
windows whose most probable label stays, on windows that gave no ranges. Models whose probabilities would
change too much are named below the table. Without `--music`, songs are synthesised, which are like no music.
`--notes`: NSynth's, for models of its instruments; they are quantized on training notes, and the accuracy of
both files is that on the validation notes.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import songs
import turns
from turns import ONNX, Table, Workers, milliseconds, ratio, set_pass

from music_zoo.errors import ExportError

INT8 = "int8"
MODELS = ("resnet-fma", "s3t-swin-fma", "mtt-gtzan", "resnet-nsynth", "clmr-samplecnn-nsynth")
SECONDS = 30
SONGS, NOTES = 6, 200


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, help="presets")
    parser.add_argument("--music", type=Path, metavar="DIR", help="audio files for the ranges")
    parser.add_argument("--notes", type=Path, metavar="DIR", help="NSynth, for its models")
    turns.add_options(parser, repeats=9, engines=())
    options = turns.parse(parser)
    if missing := [name for name in ("tensorflow", "tf2onnx") if not find_spec(name)]:
        parser.error(f"models are exported with {', '.join(missing)}, which is not installed")
    results, refused = {}, {}
    columns = ("floats, ms", "8 bits, ms", "ratio", "MB", "mean", "largest", "same")
    accuracies = ("accuracy", "in 8 bits") if options.notes else ()
    with tempfile.TemporaryDirectory() as folder, Workers((ONNX, INT8), options) as workers:
        table = Table("model", *columns, *accuracies, first=22)
        music = _music(options, Path(folder))
        for name in options.models:
            files = {ONNX: Path(folder, f"{name}.onnx"), INT8: Path(folder, f"{name}.int8.onnx")}
            with Workers(("tensorflow",), options) as makers:
                makers["tensorflow"].submit(_export, name, files[ONNX]).result()
            try:
                found = workers[INT8].submit(_quantize, files[ONNX], files[INT8], music).result()
            except ExportError as error:
                refused[name] = str(error)
                continue
            for engine, worker in workers.items():
                worker.submit(_prepare, files[engine]).result()
            seconds = workers.seconds(options.repeats)
            results[name] = {"seconds": seconds, **found}
            size = files[INT8].stat().st_size / files[ONNX].stat().st_size
            cells = [milliseconds(seconds[engine]) for engine in (ONNX, INT8)]
            cells += [f"{ratio(seconds, INT8, ONNX):.2f}", f"x {size:.2f}"]
            cells += [f"{found['mean']:.4f}", f"{found['largest']:.3f}", f"{found['same_top']:.2f}"]
            if options.notes:
                scores = [workers[e].submit(_accuracy, files[e], options.notes).result() for e in workers]
                results[name]["accuracy"] = scores
                cells += [f"{score:.3f}" for score in scores]
            table.row(name, *cells)
        versions = workers.versions()
    for name, reason in refused.items():
        print(f"\n{name} stays in floats: {reason}")
    print(f"\nWindows of {SECONDS} s in all. {turns.conditions(options)}")
    turns.write_json(options, versions=versions, models=results, refused=refused)


def _music(options, folder: Path) -> list[Path]:
    """Return files for the ranges."""
    if options.notes:
        from music_zoo.datasets import open_splits

        paths = open_splits(options.notes).split("train").paths
        return [paths[n] for n in np.linspace(0, len(paths) - 1, NOTES).astype(int)]
    if options.music:
        from music_zoo.audio import find_audio

        return find_audio(options.music)
    return [songs.write(folder / f"{seed}.flac", 2 * SECONDS, seed) for seed in range(SONGS)]


# ---- in the process that is measured -----------------------------------------------------------------------


def _export(name: str, path: Path) -> None:
    import music_zoo

    music_zoo.load(name).export_onnx(path)


def _quantize(source: Path, path: Path, music: Sequence[Path]) -> dict:
    from music_zoo.quantization import quantize

    found = quantize(source, path, music)
    return {name: getattr(found, name) for name in ("windows", "mean", "largest", "same_top")}


def _prepare(path: Path) -> None:
    """Get ready to run windows of a song, as many as last half a minute."""
    from music_zoo.onnx_model import OnnxModel

    model = OnnxModel(path)
    count = max(1, round(SECONDS / model.window))
    sound = np.resize(songs.song(SECONDS)[:, 0], (count, model.window_samples))
    set_pass(partial(model.predict_on_batch, sound))


def _accuracy(path: Path, notes: Path) -> float:
    """Return the share of NSynth's validation notes whose most probable label is right."""
    from music_zoo.datasets import open_splits
    from music_zoo.onnx_model import OnnxModel

    model, dataset = OnnxModel(path), open_splits(notes)
    paths, targets, _ = dataset.split("validation")
    order = [dataset.labels.index(label) for label in model.labels]
    found = [order[each.probabilities.argmax()] for each in model.classify_many(paths)]
    return float(np.mean(np.array(found) == targets))


if __name__ == "__main__":
    main()
