"""Peak resident memory of `music-zoo tag` per engine: on a folder of songs, and on files of many hours.

    python benchmarks/memory.py --model resnet-fma
    python benchmarks/memory.py --backends jax --hours 0.1 0.5 --files 5     # a quick look

Expected: under 1.5 GB for 50 stereo files of three minutes, under 1 GB for one file of ten hours, model
included, and for that not more than for one hour: memory is flat in the length of a file. `onnx` tags with
the file of `music-zoo export`, without Keras. Files are synthesised into a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import songs
import turns
from turns import BACKENDS, ONNX, Table

from music_zoo.export import PACKAGES

#: Runs the command line in its arguments and prints the peak of its resident memory in MB.
SCRIPT = """
import resource, sys
from music_zoo.cli import main
try:
    main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB on Linux, bytes on macOS
    print(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)
"""


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--model", default="resnet-fma")
    parser.add_argument("--hours", type=float, nargs="+", default=[1.0, 10.0], help="lengths of single files")
    parser.add_argument("--files", type=int, default=50, help="number of three-minute songs")
    turns.add_backends(parser, (*BACKENDS, ONNX))
    turns.add_json(parser)
    options = parser.parse_args()
    if ONNX in options.backends and not all(map(find_spec, PACKAGES["onnx"])):
        print(f"ONNX is left out: export needs {', '.join(PACKAGES['onnx'])}.\n")
        options.backends.remove(ONNX)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {f"{options.files} songs of 3 min": write_songs(folder / "songs", options.files)}
        for hours in options.hours:
            cases[f"one file of {hours:g} h"] = songs.write_long(folder / f"{hours:g}.flac", hours)
        models = dict.fromkeys(BACKENDS, options.model) | {ONNX: str(folder / "model.onnx")}
        if ONNX in options.backends:
            run("tensorflow", "export", options.model, "--output", models[ONNX])
        table = Table("engine, audio", "peak MB", "seconds", first=32)
        for engine in options.backends:
            for case, path in cases.items():
                peak, seconds = measure(engine, models[engine], path)
                found.append({"engine": engine, "audio": case, "peak_megabytes": peak, "seconds": seconds})
                table.row(f"{engine}, {case}", f"{peak:.0f}", f"{seconds:.0f}")
    turns.write_json(options, peaks=found)


def measure(engine: str, model: str, path: Path) -> tuple[float, float]:
    """Peak resident memory in MB and wall-clock seconds of tagging `path` in a process of its own."""
    arguments = ["--model", model, "--json", "--output", str(path.with_name("tags.json"))]
    begin = time.perf_counter()
    peak = run(engine, "tag", str(path), *arguments, "--engine", "onnx" if engine == ONNX else "keras")
    path.with_name("tags.json").unlink()  # or the next run would go on from it
    return peak, time.perf_counter() - begin


def run(engine: str, *arguments: str) -> float:
    """Run a command; return the peak of its resident memory in MB."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, env=turns.environment(engine), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def write_songs(folder: Path, count: int) -> Path:
    """Write one song, in Ogg Vorbis, and links to it."""
    folder.mkdir()
    first = songs.write(folder / "0.ogg")
    for number in range(1, count):
        os.link(first, folder / f"{number}.ogg")
    return folder


if __name__ == "__main__":
    main()
