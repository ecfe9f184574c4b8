"""Forward passes of every architecture on two cores, against the same layers in plain PyTorch.

    python benchmarks/forward.py                                      # all of them, on all installed backends
    python benchmarks/forward.py --models fcn --backends jax --repeats 3
    python benchmarks/forward.py --check                              # do both compute the same?

Measured are the networks alone, from the front end's output to logits, both NumPy arrays: ours as a
`Classifier` runs them, PyTorch's eagerly. Each backend, and plain PyTorch, has a process of its own on the
same cores; they take turns, one pass each a round, so that what else the machine does troubles all alike. A
ratio is ours / PyTorch's of the same round, the median over rounds: below 1 ours is faster. `share` is the
rate of plain PyTorch as a share of that of large matrix products in the same minute, in the process that is
best at them (more than 1 is possible: there are ways to convolve with fewer operations than are counted).

Only an idle machine gives true ratios: PyTorch's threads wait for each other, and lose far more than those of
TensorFlow and JAX where something else holds a core. On a busy one, `--threads 1 --cpu-time` serves.
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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
PYTORCH = "plain PyTorch"
CLASSES = 50
REST = 0.2  # seconds before each pass, in which the threads of the process before go to sleep


@dataclass
class Network:
    """A named configuration, as far as plain PyTorch has to know it.

    Attributes:
        backbone: Architecture and config.
        features: Shape of a batch of the front end's output.
        parameters: Trainable numbers of backbone and head.
    """

    backbone: dict
    features: tuple[int, ...]
    parameters: int


@dataclass
class Result:
    """What was measured of one network.

    Attributes:
        parameters: Trainable numbers.
        gflop: Of one pass, in the products and convolutions alone.
        matrix_gflops: Rate of large matrix products, in 10^9 operations a second, of the best process.
        seconds: By process, of each round.
    """

    parameters: int
    gflop: float
    matrix_gflops: float
    seconds: dict[str, list[float]]

    @property
    def share(self) -> float:
        """What plain PyTorch gets out of the machine, as a share of matrix products."""
        return self.gflop / statistics.median(self.seconds[PYTORCH]) / self.matrix_gflops

    def ratios(self, backend: str) -> list[float]:
        """Return ours / PyTorch's of each round."""
        return [
            ours / theirs for ours, theirs in zip(self.seconds[backend], self.seconds[PYTORCH], strict=True)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", metavar="NAME", help="named configs; all if not given")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, help="default: each that is installed")
    parser.add_argument("--batch", type=int, default=8, help="examples in a pass")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--threads", type=int, default=2, help="of each process, and cores of all")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, with one thread")
    parser.add_argument("--channels-last", action="store_true", help="let PyTorch hold images channels last")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument(
        "--check", action="store_true", help="compare outputs with the same weights; no timing"
    )
    options = parser.parse_args()
    if options.cpu_time and options.threads > 1:
        parser.error("--cpu-time adds up all threads, also while they wait: it needs --threads 1")
    if options.check:
        _silence()
        os.environ.setdefault("KERAS_BACKEND", "torch")
        from check_reference import check_all

        sys.exit(check_all(options.models))
    backends = options.backends or [name for name in BACKENDS if find_spec(name)]
    load = os.getloadavg()[0]
    workers = {name: _worker(name, options.threads, options.cpu_time) for name in [PYTORCH, *backends]}
    try:
        networks = describe_all(workers, options.models, options.batch)
        print(_header(backends), flush=True)
        results = {}
        for name, network in networks.items():
            results[name] = measure(name, network, workers, options)
            print(_row(name, results[name], backends), flush=True)
        versions = {name: worker.submit(_version, name).result() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.shutdown(cancel_futures=True)
    rates = [result.matrix_gflops for result in results.values()]
    clock = "processor time" if options.cpu_time else "wall-clock time"
    print(
        f"\nms of {clock} for a batch of {options.batch}, median and half the interquartile range of "
        f"{options.repeats} rounds.\n{options.threads} threads on {_processor()}: products of 2048x2048 "
        f"matrices at {min(rates):.0f} to {max(rates):.0f} GFLOP/s (share 1). Load before: {load:.1f}."
    )
    if options.json:
        report = {
            "batch": options.batch,
            "threads": options.threads,
            "cpu_time": options.cpu_time,
            "channels_last": options.channels_last,
            "load_before": load,
            "processor": _processor(),
            "versions": versions | {"python": platform.python_version()},
            "networks": {name: asdict(result) for name, result in results.items()},
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def describe_all(
    workers: dict[str, ProcessPoolExecutor], names: list[str] | None, batch: int
) -> dict[str, Network]:
    """Return the networks by name, each with as many parameters in PyTorch as ours has; else exit."""
    ours = next(worker for name, worker in workers.items() if name != PYTORCH)
    known = ours.submit(_names).result()
    if unknown := set(names or ()) - set(known):
        sys.exit(f"No config named {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    networks, problems = {}, []
    for name in names or known:
        network = networks[name] = ours.submit(_describe, name, batch).result()
        theirs = workers[PYTORCH].submit(_count_parameters, network.backbone).result()
        if theirs != network.parameters:
            problems.append(f"{name}: {network.parameters:,} parameters, {theirs:,} in plain PyTorch")
    if problems:
        sys.exit("These are not the same layers:\n" + "\n".join(problems))
    return networks


def measure(name: str, network: Network, workers: dict[str, ProcessPoolExecutor], options) -> Result:
    """Time one network everywhere, in rounds."""
    rate = max(worker.submit(_matrix_gflops, process).result() for process, worker in workers.items())
    gflop = workers[PYTORCH].submit(_prepare_reference, network, options.channels_last).result()
    for backend, worker in workers.items():
        if backend != PYTORCH:
            worker.submit(_prepare_ours, name, network.features).result()
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(options.repeats):
        for process, worker in workers.items():
            time.sleep(REST)
            seconds[process].append(worker.submit(_timed).result())
    return Result(network.parameters, gflop, rate, seconds)


def _header(backends: list[str]) -> str:
    ours = "".join(f"{f'{name} ms':>20}{'ratio':>7}" for name in backends)
    return f"{'':34}{'parameters':>11}{'GFLOP':>8}{'plain PyTorch ms':>20}{'share':>7}{ours}"


def _row(name: str, result: Result, backends: list[str]) -> str:
    def cell(process: str) -> str:
        milliseconds = 1000 * np.array(result.seconds[process])
        low, middle, high = np.percentile(milliseconds, (25, 50, 75))
        return f"{f'{middle:.1f} ±{(high - low) / 2:.1f}':>20}"

    ours = "".join(f"{cell(b)}{statistics.median(result.ratios(b)):7.2f}" for b in backends)
    return f"{name:34}{result.parameters:11,}{result.gflop:8.1f}{cell(PYTORCH)}{result.share:7.2f}{ours}"


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


def _worker(process: str, threads: int, cpu_time: bool) -> ProcessPoolExecutor:
    """Return a fresh process that has the threads it is allowed and nothing imported yet."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=_start, initargs=(process, threads, cpu_time))


def _start(process: str, threads: int, cpu_time: bool) -> None:
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
    _silence()


def _silence() -> None:
    """Ignore what is meant to be: empty mel filters as the originals have them, MusiCNN's even kernels."""
    for message in (".*mel filters catch no frequency bin", ".*even kernel lengths"):
        warnings.filterwarnings("ignore", message=message)


def _version(process: str) -> str:
    return import_module("torch" if process == PYTORCH else process).__version__


def _timed() -> float:
    begin = _clock()
    _pass()
    return _clock() - begin


def _set_pass(run: Callable[[], object]) -> None:
    global _pass
    _pass = run
    for _ in range(2):  # compiles, and finds memory
        run()


def _features(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _names() -> list[str]:
    import music_zoo

    return music_zoo.list_models(pretrained=False)


def _classifier(name: str):
    import music_zoo

    return music_zoo.load(name, pretrained=False, num_classes=CLASSES)


def _describe(name: str, batch: int) -> Network:
    from music_zoo.models import named_configs

    classifier = _classifier(name)
    weights = classifier.backbone.trainable_weights + classifier.head.trainable_weights
    shape = classifier.front_end.compute_output_shape((batch, classifier.window_samples))
    return Network(
        named_configs()[name]["backbone"], tuple(shape), sum(int(np.prod(w.shape)) for w in weights)
    )


def _prepare_ours(name: str, shape: tuple[int, ...]) -> None:
    import keras

    keras.utils.clear_session()
    network, features = _classifier(name).view("features", "logits"), _features(shape)
    _set_pass(lambda: network.predict_on_batch(features))


def _count_parameters(backbone: dict) -> int:
    from reference_torch import build

    return sum(parameter.numel() for parameter in build(backbone, CLASSES).parameters())


def _prepare_reference(network: Network, channels_last: bool) -> float:
    """Get ready, and return the GFLOP of a pass."""
    import torch
    from reference_torch import build
    from torch.utils.flop_counter import FlopCounterMode

    reference, features = build(network.backbone, CLASSES).requires_grad_(False), _features(network.features)
    if channels_last:
        reference = reference.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> np.ndarray:
        return reference(torch.from_numpy(features)).numpy()

    with FlopCounterMode(display=False) as counter:
        reference(torch.from_numpy(features[:1]))
    _set_pass(run)
    return counter.get_total_flops() * len(features) / 1e9


def _matrix_gflops(process: str, size: int = 2048, repeats: int = 5) -> float:
    """Return the rate of large matrix products, with whatever library the process has for them."""
    matrix = _features((size, size))
    if process == PYTORCH:
        import torch

        tensor, to_numpy = torch.from_numpy(matrix), torch.Tensor.numpy
    else:
        from keras import ops

        tensor, to_numpy = ops.convert_to_tensor(matrix), ops.convert_to_numpy
    _set_pass(lambda: to_numpy(tensor @ tensor))
    return 2 * size**3 / statistics.median(_timed() for _ in range(repeats)) / 1e9


if __name__ == "__main__":
    main()
