"""Processes that take turns on the same cores, one for each of our engines and for each of its rivals.

Each has the same cores and the threads that it is allowed. They run one pass each a round, so that what else
the machine does troubles all alike; a ratio is that of two times of the same round.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from music_zoo.backend import import_keras, keep_freed_memory

BACKENDS = ("tensorflow", "jax", "torch")
ONNX, PYTORCH, COMPILED, LIBROSA = "onnx", "plain PyTorch", "torch.compile", "librosa"
#: What each process measures the speed of, where it is not called as its process is.
LIBRARIES = {
    **{ONNX: "onnxruntime", PYTORCH: "torch", COMPILED: "torch"},
    **{"decode alone": "music_zoo", "FFT alone": "torch", "int8": "onnxruntime"},
}
REST = 0.2  # seconds before each pass, in which the threads of the process before go to sleep

# ---- in the process that asks ------------------------------------------------------------------------------


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser whose help is a script's docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_options(parser: argparse.ArgumentParser, repeats: int, engines: Sequence[str] = BACKENDS) -> None:
    """Add the options that every measurement in turns has; `--backends` if there are `engines`."""
    if engines:
        add_backends(parser, engines)
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds")
    parser.add_argument("--threads", type=int, default=2, help="of each process, and cores of all")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, with one thread")
    add_json(parser)


def add_backends(parser: argparse.ArgumentParser, engines: Sequence[str]) -> None:
    installed = [name for name in engines if find_spec(LIBRARIES.get(name, name))]
    parser.add_argument("--backends", nargs="+", choices=engines, default=installed)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="do both compute the same? No timing")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options, or exit."""
    options = parser.parse_args()
    if options.threads < 1 or options.repeats < 1:
        parser.error("--threads and --repeats are 1 or more")
    if options.cpu_time and options.threads > 1:
        parser.error("--cpu-time adds up all threads, also while they wait: it needs --threads 1")
    options.load_before = os.getloadavg()[0]
    return options


class Workers(dict[str, ProcessPoolExecutor]):
    """The processes by name, in the order of their turns; they end with the `with` block.

    Args:
        names: Of the processes.
        options: With `threads` and `cpu_time`.
        keep_memory: Which of them keep what memory they free, see `music_zoo.backend.keep_freed_memory`.
    """

    def __init__(self, names: Iterable[str], options: argparse.Namespace, keep_memory: Sequence[str] = ()):
        context = multiprocessing.get_context("spawn")
        settings = options.threads, options.cpu_time
        super().__init__(
            (name, ProcessPoolExecutor(1, context, _start, (name, *settings, name in keep_memory)))
            for name in names
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.values():
            worker.shutdown(cancel_futures=True)

    def drop(self, name: str) -> None:
        """End one process."""
        self.pop(name).shutdown(cancel_futures=True)

    def seconds(self, repeats: int) -> dict[str, list[float]]:
        """Time the pass that each process has set, in rounds."""
        seconds: dict[str, list[float]] = {name: [] for name in self}
        for _ in range(repeats):
            for process, worker in self.items():
                time.sleep(REST)
                seconds[process].append(worker.submit(timed).result())
        return seconds

    def peaks(self) -> dict[str, float]:
        """Return the most memory that each process has held, in MB."""
        return {name: worker.submit(peak_megabytes).result() for name, worker in self.items()}

    def versions(self) -> dict[str, str]:
        """Return the version of the library of each process."""
        return dict(worker.submit(_version, name).result() for name, worker in self.items())


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    """Return the median over rounds of one process's time / another's."""
    return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


class Table:
    """A table in Markdown, printed row by row.

    Args:
        names: Of the columns; the first is aligned to the left.
        first: Characters in the first column.
    """

    def __init__(self, *names: str, first: int = 20):
        self._widths = [max(first, len(names[0])), *(max(9, len(name)) for name in names[1:])]
        self.row(*names)
        rules = ["-" * width for width in self._widths]
        print("|" + "|".join([f"-{rules[0]}-", *(f"-{rule}:" for rule in rules[1:])]) + "|", flush=True)

    def row(self, *cells: str) -> None:
        aligned = [cells[0].ljust(self._widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], self._widths[1:], strict=True)]
        print("| " + " | ".join(aligned) + " |", flush=True)


def milliseconds(seconds: list[float], digits: int = 1) -> str:
    """Median and half the interquartile range."""
    low, middle, high = np.percentile(1000 * np.array(seconds), (25, 50, 75))
    return f"{middle:.{digits}f} ±{(high - low) / 2:.{digits}f}"


def conditions(options: argparse.Namespace) -> str:
    """Say what was measured, and where."""
    clock = "processor time" if options.cpu_time else "wall-clock time"
    return (
        f"{clock.capitalize()}, median and half the interquartile range of {options.repeats} rounds; "
        f"{options.threads} threads on {processor()}. Load before: {options.load_before:.1f}."
    )


def write_json(options: argparse.Namespace, **measured) -> None:
    """Write settings and what was measured, if that is wanted."""
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name not in ("json", "check")}
        where = {"processor": processor(), "python": platform.python_version()}
        options.json.write_text(json.dumps(settings | where | measured, indent=1) + "\n")


def processor() -> str:
    """Return the processor's name, where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def environment(process: str) -> dict[str, str]:
    """Return the environment of a process that measures alone."""
    return {**os.environ, **({"KERAS_BACKEND": process} if process in BACKENDS else {})}


# ---- in the process of a backend ---------------------------------------------------------------------------

_clock: Callable[[], float]
_pass: Callable[[], object]


def set_pass(run: Callable[[], object], warm: bool = True) -> None:
    """Set what `timed` measures, and get it ready, unless it has run already."""
    global _pass
    _pass = run
    for _ in range(2 if warm else 0):  # compiles, and finds memory
        run()


def timed() -> float:
    """Return the seconds of one pass."""
    begin = _clock()
    _pass()
    return _clock() - begin


def peak_megabytes() -> float:
    """Return the most memory that this process has held."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # kB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def silence() -> None:
    """Ignore what is meant to be: empty mel filters as the originals have them, MusiCNN's even kernels.

    And what Keras' exporter does to NumPy.
    """
    for message in (".*mel filters catch no frequency bin", ".*even kernel lengths", ".*`np.object`"):
        warnings.filterwarnings("ignore", message=message)


def _start(process: str, threads: int, cpu_time: bool, keep_memory: bool) -> None:
    """Begin a fresh process, which has nothing imported yet."""
    global _clock
    _clock = time.process_time if cpu_time else time.perf_counter
    if hasattr(os, "sched_setaffinity"):  # the only limit that XLA knows
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(threads)
    )
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    if keep_memory:
        keep_freed_memory()
    if process in BACKENDS:
        os.environ["KERAS_BACKEND"] = process
        import_keras()
    silence()


def _version(process: str) -> tuple[str, str]:
    """Return name and version of a process's library."""
    library = LIBRARIES.get(process, process)
    return library, import_module(library).__version__
