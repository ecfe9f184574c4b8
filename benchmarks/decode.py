"""Decoding and resampling beside `librosa.load`, for the formats that libsndfile reads.

    python benchmarks/decode.py
    python benchmarks/decode.py --formats mp3 --rates 16000 --seconds 30

One stereo song, synthesised at 44.1 kHz; `music_zoo.audio.load` and `librosa.load` take it from the disk's
cache to mono float32 at the rate, each in a process of its own, in turns, one thread each. Before timing,
both must give the same samples. `x real time` is seconds of audio per second of ours; `ratio` ours /
librosa's time of the same round, median: below 1 ours is faster.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import songs
import turns
from turns import LIBROSA, Table, Workers, milliseconds, ratio, set_pass

OURS = "music_zoo"
FORMATS = ("mp3", "ogg", "flac", "wav")
LIMIT = 1e-6  # of a sample


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--rates", nargs="+", type=int, default=[44_100, 22_050, 16_000], metavar="HZ")
    parser.add_argument("--seconds", type=float, default=songs.SONG_SECONDS, help="length of the song")
    turns.add_options(parser, repeats=7, engines=())
    options = turns.parse(parser)
    results = []
    with tempfile.TemporaryDirectory() as folder, Workers((OURS, LIBROSA), options) as workers:
        table = Table("format", "to Hz", "music_zoo, ms", "x real time", "librosa, ms", "ratio", first=8)
        for format in options.formats:
            path = songs.write(Path(folder, f"song.{format}"), options.seconds)
            for rate in options.rates:
                seconds = measure(path, rate, workers, options.repeats)
                speed = options.seconds / statistics.median(seconds[OURS])
                results.append({"format": format, "rate": rate, "seconds": seconds, "x_real_time": speed})
                ours, theirs = milliseconds(seconds[OURS]), milliseconds(seconds[LIBROSA])
                quotient = f"{ratio(seconds, OURS, LIBROSA):.2f}"
                table.row(format, str(rate), ours, f"{speed:.0f}", theirs, quotient)
        versions = workers.versions()
    print(f"\n{options.seconds:g} s of stereo at {songs.SAMPLE_RATE} Hz. {turns.conditions(options)}")
    turns.write_json(options, versions=versions, files=results)


def measure(path: Path, rate: int, workers: Workers, repeats: int) -> dict[str, list[float]]:
    """Time one file at one rate, after a look at whether both give the same."""
    ours, theirs = (worker.submit(_prepare, name, path, rate).result() for name, worker in workers.items())
    if ours.shape != theirs.shape or np.abs(ours - theirs).max() > LIMIT:
        sys.exit(f"music_zoo and librosa give different samples of {path.name} at {rate} Hz.")
    return workers.seconds(repeats)


# ---- in the process that is measured -----------------------------------------------------------------------


def _prepare(process: str, path: Path, rate: int) -> np.ndarray:
    """Get ready, and return the samples."""
    if process == OURS:
        from music_zoo.audio import load

        set_pass(lambda: load(path, rate))
        return load(path, rate)[0]
    import librosa

    set_pass(lambda: librosa.load(path, sr=rate))
    return librosa.load(path, sr=rate)[0]


if __name__ == "__main__":
    main()
