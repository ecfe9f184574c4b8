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

import os
import statistics
import sys
from dataclasses import asdict, dataclass

import numpy as np
import turns
from limits import matrix_gflops
from turns import PYTORCH, Table, Workers, milliseconds, ratio, set_pass

CLASSES = 50


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


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="named configs; all if not given")
    parser.add_argument("--batch", type=int, default=8, help="examples in a pass")
    parser.add_argument("--channels-last", action="store_true", help="let PyTorch hold images channels last")
    turns.add_options(parser, repeats=7)
    turns.add_check(parser)
    options = turns.parse(parser)
    if options.check:
        turns.silence()
        os.environ.setdefault("KERAS_BACKEND", "torch")
        from check_reference import check_all

        sys.exit(check_all(options.models))
    with Workers((PYTORCH, *options.backends), options) as workers:
        networks = describe_all(workers, options)
        ours = [column for name in options.backends for column in (f"{name}, ms", "ratio")]
        table = Table("network", "parameters", "GFLOP", f"{PYTORCH}, ms", "share", *ours, first=32)
        results = {}
        for name, network in networks.items():
            result = results[name] = measure(name, network, workers, options)
            table.row(name, *_row(result, options.backends))
        versions = workers.versions()
    rates = [result.matrix_gflops for result in results.values()]
    print(
        f"\nBatches of {options.batch}. {turns.conditions(options)} Products of 2048x2048 matrices at "
        f"{min(rates):.0f} to {max(rates):.0f} GFLOP/s (share 1)."
    )
    networks = {name: asdict(result) | {"share": result.share} for name, result in results.items()}
    turns.write_json(options, versions=versions, networks=networks)


def describe_all(workers: Workers, options) -> dict[str, Network]:
    """Return the networks by name, each with as many parameters in PyTorch as ours has; else exit."""
    names, ours = options.models, workers[options.backends[0]]
    known = ours.submit(_names).result()
    if unknown := set(names or ()) - set(known):
        sys.exit(f"No config named {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    networks, problems = {}, []
    for name in names or known:
        network = networks[name] = ours.submit(_describe, name, options.batch).result()
        theirs = workers[PYTORCH].submit(_count_parameters, network.backbone).result()
        if theirs != network.parameters:
            problems.append(f"{name}: {network.parameters:,} parameters, {theirs:,} in plain PyTorch")
    if problems:
        sys.exit("These are not the same layers:\n" + "\n".join(problems))
    return networks


def measure(name: str, network: Network, workers: Workers, options) -> Result:
    """Time one network everywhere, in rounds."""
    rate = max(worker.submit(matrix_gflops, process).result() for process, worker in workers.items())
    gflop = workers[PYTORCH].submit(_prepare_reference, network, options.channels_last).result()
    for backend in options.backends:
        workers[backend].submit(_prepare_ours, name, network.features).result()
    return Result(network.parameters, gflop, rate, workers.seconds(options.repeats))


def _row(result: Result, backends: list[str]) -> list[str]:
    seconds = result.seconds
    cells = [f"{result.parameters:,}", f"{result.gflop:.1f}", milliseconds(seconds[PYTORCH])]
    cells.append(f"{result.share:.2f}")
    for name in backends:
        cells += [milliseconds(seconds[name]), f"{ratio(seconds, name, PYTORCH):.2f}"]
    return cells


# ---- in the process of a backend ---------------------------------------------------------------------------


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
    set_pass(lambda: network.predict_on_batch(features))


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
    set_pass(run)
    return counter.get_total_flops() * len(features) / 1e9


if __name__ == "__main__":
    main()
