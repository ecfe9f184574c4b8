"""How long commands take that need no model, and how long it is from nothing to a first prediction.

    python benchmarks/startup.py

Each in a process of its own, wall-clock time. Commands should stay under 0.7 s. A first prediction is of 30 s
of a song by resnet-fma: imports and building the model (`loaded`), then `classify` (`first`), which compiles,
then the same again (`second`). Beside it a script with librosa and PyTorch, which imports them and runs a
network of the same layers on the same windows.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import songs
import turns
from turns import BACKENDS, ONNX, PYTORCH, Table

COMMANDS = (["--version"], ["--help"], ["models"], ["tag", "--help"])
SCRIPT = "from music_zoo.cli import main; main()"
MODEL = "resnet-fma"

#: By engine: what loads a model, and gives `classify`, a function of a file.
LOAD = {
    ONNX: """
from music_zoo.onnx_model import OnnxModel
model = OnnxModel(sys.argv[2])
classify = lambda path: next(model.classify_many([path]))
""",
    PYTORCH: f"""
sys.path.insert(0, {str(Path(__file__).parent)!r})
import json, librosa, torch
from reference_torch import build
from reference_torch.front_end import FrontEnd
config = json.load(open(sys.argv[2]))["classifier"]
network, front_end = build(config["backbone"], len(config["labels"])), FrontEnd(config["front_end"])
rate = config["front_end"]["sample_rate"]
@torch.inference_mode()
def classify(path):
    audio, _ = librosa.load(path, sr=rate)
    return network(front_end(torch.from_numpy(audio)[None])).softmax(-1).numpy()
""",
} | dict.fromkeys(
    BACKENDS,
    """
import music_zoo
classify = music_zoo.load(sys.argv[2]).classify
""",
)
PREDICT = """
import sys, time
begin = time.perf_counter()
{load}
times = [time.perf_counter() - begin]
for _ in range(2):
    start = time.perf_counter()
    classify(sys.argv[1])
    times.append(time.perf_counter() - start)
print(*times)
"""


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--runs", type=int, default=7, help="of each command")
    parser.add_argument("--predictions", type=int, default=3, help="runs of each engine")
    turns.add_backends(parser, (*BACKENDS, ONNX))
    turns.add_json(parser)
    options = parser.parse_args()
    commands, predictions = {}, {}
    if options.runs:
        table = Table("command", "median s", "least s", first=24)
    for command in COMMANDS if options.runs else ():
        seconds = [measure([SCRIPT, *command])[0] for _ in range(options.runs)]
        name = " ".join(["music-zoo", *command])
        commands[name] = seconds
        table.row(name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f}")
    if options.predictions:
        print()
        predictions = predict_all(options)
    turns.write_json(options, commands=commands, predictions=predictions)


def predict_all(options) -> dict[str, list[list[float]]]:
    """Print and return, by engine, the seconds to load, of the first and of the second prediction."""
    from music_zoo.export import PACKAGES
    from music_zoo.hub.sources import BUNDLED_PRESETS

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        song, exported = songs.write(Path(folder, "song.wav"), 30), Path(folder, "model.onnx")
        models = dict.fromkeys(BACKENDS, MODEL) | {ONNX: str(exported)}
        models[PYTORCH] = str(BUNDLED_PRESETS / MODEL / "config.json")
        engines = [*options.backends, *([PYTORCH] if find_spec("torch") and find_spec("librosa") else [])]
        if ONNX in engines:
            if all(map(find_spec, PACKAGES["onnx"])):
                measure([SCRIPT, "export", MODEL, "--output", str(exported)])
            else:
                engines.remove(ONNX)
        table = Table(f"{MODEL}, s", "loaded", "first", "second")
        for engine in engines:
            script = PREDICT.format(load=LOAD[engine])
            runs = [
                [float(word) for word in measure([script, str(song), models[engine]], engine)[1].split()]
                for _ in range(options.predictions)
            ]
            found[engine] = runs
            table.row(engine, *(f"{statistics.median(column):.2f}" for column in zip(*runs, strict=True)))
    return found


def measure(arguments: list[str], engine: str = "") -> tuple[float, str]:
    """Return wall-clock seconds of a Python script in a process of its own, and what it printed."""
    begin = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", *arguments], env=turns.environment(engine), capture_output=True, text=True
    )
    seconds = time.perf_counter() - begin
    if run.returncode:
        sys.exit(run.stderr)
    return seconds, run.stdout


if __name__ == "__main__":
    main()
