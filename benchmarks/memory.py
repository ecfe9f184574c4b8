"""Peak resident memory of `music-zoo tag` per backend: on a folder of songs, and on one file of many hours.

    python benchmarks/memory.py --model resnet-fma
    python benchmarks/memory.py --backend jax --hours 0.3 --files 5     # a quick look

Expected: under 1.5 GB for 50 stereo files of three minutes, under 1 GB for one file of ten hours, model
included. Files are synthesised into a temporary folder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile

from music_zoo.backend import BACKENDS

SAMPLE_RATE = 44_100
SONG_SECONDS = 180

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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet-fma")
    parser.add_argument("--backend", choices=BACKENDS, help="default: each that is installed")
    parser.add_argument("--hours", type=float, default=10.0, help="length of the one file")
    parser.add_argument("--files", type=int, default=50, help="number of three-minute songs")
    options = parser.parse_args()
    backends = [options.backend] if options.backend else [name for name in BACKENDS if find_spec(name)]
    with tempfile.TemporaryDirectory() as folder:
        songs, long = Path(folder, "songs"), Path(folder, "long.flac")
        write_songs(songs, options.files)
        write_long(long, options.hours)
        cases = {f"{options.files} songs of 3 min": songs, f"one file of {options.hours:g} h": long}
        print(f"{'backend':12}{'audio':24}{'peak MB':>10}{'seconds':>10}")
        for backend in backends:
            for name, path in cases.items():
                peak, seconds = measure(backend, options.model, path)
                print(f"{backend:12}{name:24}{peak:10.0f}{seconds:10.0f}", flush=True)


def measure(backend: str, model: str, path: Path) -> tuple[float, float]:
    """Peak resident memory in MB and wall-clock seconds of tagging `path` in a process of its own."""
    output = path.with_name("tags.json")
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        "tag",
        str(path),
        "--model",
        model,
        "--json",
        "--output",
        str(output),
    ]
    begin = time.perf_counter()
    environment = {**os.environ, "KERAS_BACKEND": backend}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return float(run.stdout), time.perf_counter() - begin


def write_songs(folder: Path, count: int) -> None:
    """One song of three minutes, stereo, in Ogg Vorbis, and links to it."""
    folder.mkdir()
    t = np.arange(SONG_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    left = 0.4 * np.sin(2 * np.pi * (110 + t) * t)
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(t))
    with soundfile.SoundFile(folder / "0.ogg", "w", SAMPLE_RATE, 2) as file:
        for start in range(0, len(t), SAMPLE_RATE):  # libsndfile's Vorbis encoder fails on long writes
            piece = slice(start, start + SAMPLE_RATE)
            file.write(np.stack([left[piece], left[piece] + noise[piece]], axis=1))
    for number in range(1, count):
        os.link(folder / "0.ogg", folder / f"{number}.ogg")


def write_long(path: Path, hours: float) -> None:
    """One file in FLAC, the same second over and over: quick to write, small."""
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    second = (8000 * np.sign(np.sin(2 * np.pi * 110 * t))).astype(np.int16)
    minute = np.tile(second, 60)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16") as file:
        for _ in range(round(hours * 60)):
            file.write(minute)


if __name__ == "__main__":
    main()
