"""Processes that take turns on the same cores, one for each backend and one for plain PyTorch.

Each has the same cores and the threads that it is allowed. They run one pass each a round, so that what else
the machine does troubles all alike; a ratio is ours / PyTorch's of the same round.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
PYTORCH = "plain PyTorch"
REST = 0.2  # seconds before each pass, in which the threads of the process before go to sleep

# ---- in the process that asks ------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Add the options that every measurement has."""
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=[name for name in BACKENDS if find_spec(name)]
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds")
    parser.add_argument("--threads", type=int, default=2, help="of each process, and cores of all")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, with one thread")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--check", action="store_true", help="do both compute the same? No timing")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options, or exit."""
    options = parser.parse_args()
    if options.cpu_time and options.threads > 1:
        parser.error("--cpu-time adds up all threads, also while they wait: it needs --threads 1")
    options.load_before = os.getloadavg()[0]
    return options


class Workers(dict[str, ProcessPoolExecutor]):
    """The processes by name, plain PyTorch first; they end with the `with` block."""

    def __init__(self, options: argparse.Namespace):
        context = multiprocessing.get_context("spawn")
        super().__init__(
            (name, ProcessPoolExecutor(1, context, _start, (name, options.threads, options.cpu_time)))
            for name in (PYTORCH, *options.backends)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.values():
            worker.shutdown(cancel_futures=True)

    @property
    def ours(self) -> dict[str, ProcessPoolExecutor]:
        """Those of our backends."""
        return {name: worker for name, worker in self.items() if name != PYTORCH}

    def seconds(self, repeats: int) -> dict[str, list[float]]:
        """Time the pass that each process has set, in rounds."""
        seconds: dict[str, list[float]] = {name: [] for name in self}
        for _ in range(repeats):
            for process, worker in self.items():
                time.sleep(REST)
                seconds[process].append(worker.submit(timed).result())
        return seconds

    def versions(self) -> dict[str, str]:
        """Return the version of each library."""
        return {name: worker.submit(_version, name).result() for name, worker in self.items()}


def ratios(seconds: dict[str, list[float]], backend: str) -> list[float]:
    """Return ours / PyTorch's of each round."""
    return [ours / theirs for ours, theirs in zip(seconds[backend], seconds[PYTORCH], strict=True)]


def header(backends: Sequence[str]) -> str:
    return "".join(f"{f'{name} ms':>20}{'ratio':>7}" for name in backends)


def cell(seconds: list[float]) -> str:
    """Median and half the interquartile range in milliseconds."""
    low, middle, high = np.percentile(1000 * np.array(seconds), (25, 50, 75))
    return f"{f'{middle:.1f} ±{(high - low) / 2:.1f}':>20}"


def row(seconds: dict[str, list[float]], backends: Sequence[str]) -> str:
    return "".join(f"{cell(seconds[b])}{statistics.median(ratios(seconds, b)):7.2f}" for b in backends)


def conditions(options: argparse.Namespace) -> str:
    """Say what was measured, and where."""
    clock = "processor time" if options.cpu_time else "wall-clock time"
    return (
        f"ms of {clock}, median and half the interquartile range of {options.repeats} rounds.\n"
        f"{options.threads} threads on {_processor()}. Load before: {options.load_before:.1f}."
    )


def write_json(options: argparse.Namespace, versions: dict[str, str], **measured) -> None:
    """Write a report, if one is wanted."""
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name not in ("json", "check")}
        versions = versions | {"python": platform.python_version()}
        report = settings | {"processor": _processor(), "versions": versions} | measured
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _processor() -> str:
    """Return the processor's name, where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ---- in the process of a backend ---------------------------------------------------------------------------

_clock: Callable[[], float]
_pass: Callable[[], object]


def set_pass(run: Callable[[], object]) -> None:
    """Set what `timed` measures, and get it ready."""
    global _pass
    _pass = run
    for _ in range(2):  # compiles, and finds memory
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
    """Ignore what is meant to be: empty mel filters as the originals have them, MusiCNN's even kernels."""
    for message in (".*mel filters catch no frequency bin", ".*even kernel lengths"):
        warnings.filterwarnings("ignore", message=message)


def _start(process: str, threads: int, cpu_time: bool) -> None:
    """Begin a fresh process, which has nothing imported yet."""
    global _clock
    _clock = time.process_time if cpu_time else time.perf_counter
    if hasattr(os, "sched_setaffinity"):  # the only limit that XLA knows
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(threads)
    )
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    if process != PYTORCH:
        os.environ["KERAS_BACKEND"] = process
    silence()


def _version(process: str) -> str:
    return import_module("torch" if process == PYTORCH else process).__version__
