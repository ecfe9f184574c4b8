"""Throughput of `music-zoo tag --ray` beside two plain processes that share the same files, in one run.

    python benchmarks/catalogue.py                        # 400 files, both three times, in turn
    python benchmarks/catalogue.py --files 60 --repeats 1 # a quick look

Plain: two processes, one thread each, `classify_many` on half of the files each. Ray: one local cluster. The
files are 30 s of stereo MP3. A rate is that of the middle 80 % of the files, so without starting and ending,
which a long run does not notice; whole seconds are beside it. Wanted: a ratio of at least 0.85. Ray's
workers have the priority of the plain processes here (RAY_worker_niceness); by Ray's own choice, it is lower.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 44_100
SECONDS = 30
PROCESSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet-fma")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3, help="rounds; in each, both run once")
    parser.add_argument("--actors", type=int, help="processes of Ray's that hold the model")
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        songs = write_songs(Path(folder, "songs"), options.files)
        print(f"{options.files} files, {os.cpu_count()} processors, load before {os.getloadavg()[0]:.1f}")
        print(f"{'':10}{'files a second':>16}{'seconds in all':>16}")
        for number in range(options.repeats):
            plain = report("plain", *run_plain(songs, options.model))
            ray = report("ray", *run_ray(songs, Path(folder, f"out-{number}"), options.model, options.actors))
            ratios.append(ray / plain)
    spread = f", {min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else ""
    print(f"ray / plain: {statistics.median(ratios):.2f}{spread}")


def report(name: str, finished: list[float], seconds: float) -> float:
    """Print and return the rate."""
    finished = sorted(finished)
    first, last = round(0.1 * len(finished)), round(0.9 * len(finished)) - 1
    rate = (last - first) / (finished[last] - finished[first])
    print(f"{name:10}{rate:16.2f}{seconds:16.1f}", flush=True)
    return rate


def run_plain(songs: list[Path], model: str) -> tuple[list[float], float]:
    """Return when each file was finished, and the seconds in all."""
    begin = time.monotonic()
    settings = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    os.environ |= settings
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        halves = [(songs[number::PROCESSES], model) for number in range(PROCESSES)]
        finished = [moment for half in pool.starmap(classify, halves, chunksize=1) for moment in half]
    for name in settings:
        del os.environ[name]
    return finished, time.monotonic() - begin


def classify(songs: list[Path], model: str) -> list[float]:
    """In a process of its own: classify the songs and return when each was finished."""
    from music_zoo import load

    return [time.monotonic() for _ in load(model).classify_many(songs)]


def run_ray(songs: list[Path], output: Path, model: str, actors: int | None) -> tuple[list[float], float]:
    """Return when each file was finished, and the seconds in all."""
    from music_zoo.catalogue import write_catalogue

    begin, finished = time.monotonic(), []
    written = write_catalogue(
        list(map(str, songs)),
        output,
        model=model,
        actors=actors,
        progress=lambda *_: finished.append(time.monotonic()),
    )
    assert (written.tracks, written.failures) == (len(songs), 0)
    return finished, time.monotonic() - begin


def write_songs(folder: Path, count: int) -> list[Path]:
    """One song in MP3, stereo, and links to it."""
    folder.mkdir()
    t = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    left = 0.4 * np.sin(2 * np.pi * (110 + 20 * t) * t)
    right = left + 0.05 * np.random.default_rng(0).standard_normal(len(t))
    songs = [folder / f"{number}.mp3" for number in range(count)]
    soundfile.write(songs[0], np.stack([left, right], axis=1), SAMPLE_RATE)
    for song in songs[1:]:
        os.link(songs[0], song)
    return songs


if __name__ == "__main__":
    main()
