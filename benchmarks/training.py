"""Steps of self-supervised training on two cores, against the same steps in plain PyTorch.

    python benchmarks/training.py                        # SimCLR and MoCo on all installed backends
    python benchmarks/training.py --methods moco --backends torch --repeats 5
    python benchmarks/training.py --check                # do both learn the same?

A step is what `train_on_batch` does with a batch of clips whose two views are made already: both passes, the
loss, its gradient, the optimizer, and with MoCo the key network and the queue. Plain PyTorch is written as
one writes it and runs eagerly. Processes take turns as in `forward.py`; a ratio is ours / PyTorch's of the
same round, the median over rounds: below 1 ours is faster. `share` is the rate of plain PyTorch as a share of
that of large matrix products. Memory is the most that a process has held, with all that it has imported and
with what its backend needs to compile.

Our processes keep what memory is freed (`music_zoo.backend.keep_freed_memory`), as `music-zoo pretrain` does.
Where arrays are large, a third of plain PyTorch's time is the system's, to fill new memory with zeros; with
`--all-keep-memory` that is saved there, too, and only the computing is compared.
Only an idle machine gives true ratios. On a busy one, `--threads 1 --cpu-time` serves.
"""

import copy
import os
import statistics
import sys
from dataclasses import dataclass

import numpy as np
import turns
from limits import matrix_gflops
from turns import PYTORCH, Table, Workers, milliseconds, ratio

TEMPERATURE = {"simclr": 0.5, "moco": 0.2}
QUEUE, MOMENTUM = 4096, 0.99
LEARNING_RATE, WEIGHT_DECAY = 3e-4, 0.05
#: Of the difference of losses in the first step, and in later ones. Those are judged only without batch
#: normalisation: Keras' takes the variance as E[x^2] - E[x]^2, in float32 even under float64, and SampleCNN's
#: last layers, with few steps to normalise over, magnify what that rounds off.
LIMITS = (1e-4, 1e-2)


@dataclass(frozen=True)
class Case:
    """A method and a named configuration.

    Attributes:
        method: `"simclr"` or `"moco"`.
        network: Name of the configuration.
        view: Shape of a view.
        batch: Clips in a batch.
        projection: Widths of the projection head.
    """

    method: str
    network: str
    view: tuple[int, ...]
    batch: int
    projection: tuple[int, ...]


CASES = {
    "simclr": Case("simclr", "sample-cnn-clmr", (59_049,), 8, (512, 64)),  # as CLMR
    "moco": Case("moco", "swin-mini", (128, 64), 64, (192, 128)),
    "moco-compact": Case("moco", "swin-compact", (128, 64), 16, (384, 128)),
}


def main() -> None:
    parser = turns.parser(__doc__)
    parser.add_argument("--methods", nargs="+", choices=CASES, default=["simclr", "moco"])
    parser.add_argument("--all-keep-memory", action="store_true", help="plain PyTorch keeps memory, too")
    parser.add_argument("--batch", type=int, help="clips; default: 8 for SimCLR, 64 for MoCo")
    turns.add_options(parser, repeats=15)
    turns.add_check(parser)
    options = turns.parse(parser)
    if options.check:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        sys.exit(max(check(name, CASES[name]) for name in options.methods))
    ours = [column for name in options.backends for column in (f"{name}, ms", "ratio")]
    table = Table("step", "batch", "GFLOP", f"{PYTORCH}, ms", "share", *ours, first=32)
    results = {}
    for name in options.methods:
        results[name], versions = measure(name, options)
        result = results[name]
        seconds = result["seconds"]
        cells = [milliseconds(seconds[PYTORCH]), f"{result['share']:.2f}"]
        for backend in options.backends:
            cells += [milliseconds(seconds[backend]), f"{ratio(seconds, backend, PYTORCH):.2f}"]
        case = CASES[name]
        table.row(f"{case.method}, {case.network}", str(result["batch"]), f"{result['gflop']:.1f}", *cells)
    print(f"\n{turns.conditions(options)}\n")
    table = Table("peak memory, MB", PYTORCH, *options.backends)
    for name, result in results.items():
        table.row(name, *(f"{peak:.0f}" for peak in result["peak_megabytes"].values()))
    turns.write_json(options, versions=versions, steps=results)


def measure(name: str, options) -> tuple[dict, dict]:
    """Return what was measured of one step, and the versions of the libraries."""
    case = CASES[name]
    batch = options.batch or case.batch
    processes = (PYTORCH, *options.backends)
    keeping = processes if options.all_keep_memory else options.backends
    with Workers(processes, options, keeping) as workers:  # fresh ones, for their memory
        rate = max(worker.submit(matrix_gflops, process).result() for process, worker in workers.items())
        gflop, *_ = [worker.submit(_prepare, p, case, batch).result() for p, worker in workers.items()]
        seconds = workers.seconds(options.repeats)
        result = {"batch": batch, "gflop": gflop, "matrix_gflops": rate, "seconds": seconds}
        result["share"] = gflop / statistics.median(seconds[PYTORCH]) / rate
        return result | {"peak_megabytes": workers.peaks()}, workers.versions()


# ---- in the process of a backend ---------------------------------------------------------------------------


def _prepare(process: str, case: Case, batch: int) -> float:
    """Get ready; return the GFLOP of a step, in products and convolutions alone, if this is plain PyTorch."""
    first, second = _views(case, batch)
    if process != PYTORCH:
        trainer = _trainer(case, _encoder(case))
        turns.set_pass(lambda: trainer.train_on_batch((first, second)))
        return 0.0
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    step = _reference_step(case, *_reference_networks(case))
    with FlopCounterMode(display=False) as counter:
        step(torch.from_numpy(first), torch.from_numpy(second))
    turns.set_pass(lambda: step(torch.from_numpy(first), torch.from_numpy(second)))
    return counter.get_total_flops() / 1e9


def _views(case: Case, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two views of each clip, alike but not the same."""
    generator = np.random.default_rng(seed)
    clips, *noises = generator.standard_normal((3, batch, *case.view), dtype=np.float32)
    return tuple(clips + noise for noise in noises)


def _backbone(case: Case) -> dict:
    """Return architecture and config, in which nothing is drawn at random."""
    from music_zoo.models import named_configs

    backbone = copy.deepcopy(named_configs()[case.network]["backbone"])
    if backbone["architecture"] == "Swin":
        backbone["config"]["drop_path_rate"] = 0.0
    return backbone


def _encoder(case: Case):
    from music_zoo.classifier import Classifier
    from music_zoo.models import named_configs

    config = named_configs()[case.network] | {"backbone": _backbone(case), "labels": ["a", "b"]}
    return Classifier.from_config(config)


def _trainer(case: Case, classifier):
    """Return the method, compiled as `music_zoo.pretraining.run` does."""
    import keras

    from music_zoo.pretraining import METHODS
    from music_zoo.pretraining.run import NO_DECAY

    encoder = classifier.view("features", "embedding")
    settings = {"projection": case.projection, "temperature": TEMPERATURE[case.method]}
    if case.method == "moco":
        settings |= {"queue_length": QUEUE, "momentum": MOMENTUM, "seed": 0}
        optimizer = keras.optimizers.AdamW(LEARNING_RATE, WEIGHT_DECAY)
        optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    else:
        optimizer = keras.optimizers.Adam(LEARNING_RATE)
    trainer = METHODS[case.method](encoder, **settings)
    trainer.compile(optimizer, jit_compile=encoder.jit_compile)
    return trainer


def _reference_networks(case: Case):
    """Return encoder and projection head in plain PyTorch."""
    from reference_torch import training
    from torch import nn

    width = case.projection[0]  # that of the embedding
    bias = case.method == "moco"
    projector = nn.Sequential(
        nn.Linear(width, width, bias), nn.ReLU(), nn.Linear(width, case.projection[1], bias)
    )
    return training.encoder(_backbone(case)), projector


def _reference_step(case: Case, network, projector, queue: np.ndarray | None = None):
    import torch
    from reference_torch import training

    if case.method == "simclr":
        return training.simclr(network, projector, TEMPERATURE["simclr"], LEARNING_RATE)
    queue = (
        torch.nn.functional.normalize(torch.randn(QUEUE, case.projection[1]), dim=1)
        if queue is None
        else torch.tensor(queue)
    )
    return training.moco(
        network, projector, queue, TEMPERATURE["moco"], MOMENTUM, LEARNING_RATE, WEIGHT_DECAY
    )


# ---- whether both learn the same ---------------------------------------------------------------------------


def check(name: str, case: Case, batch: int = 4, steps: int = 3) -> int:
    """Take the same steps from the same weights; print the losses and return 1 if they differ."""
    import torch
    from check_reference import fill
    from keras import ops

    torch.manual_seed(0)
    network, projector = _reference_networks(case)
    classifier = _encoder(case)
    fill(classifier.backbone, {key: value.numpy() for key, value in network.state_dict().items()})
    trainer = _trainer(case, classifier)
    heads = [trainer.projector] + ([trainer.key_projector] if case.method == "moco" else [])
    for head in heads:
        for variable, value in zip(head.variables, projector.parameters(), strict=True):
            variable.assign(value.detach().numpy().T.copy())
    queue = np.array(ops.convert_to_numpy(trainer.queue)) if case.method == "moco" else None
    step = _reference_step(case, network, projector, queue)
    print(f"{name:16}{'loss of ours':>16}{'of plain PyTorch':>20}")
    differences = []
    for number in range(steps):
        first, second = _views(case, batch, number)
        ours = trainer.train_on_batch((first, second), return_dict=True)["loss"]
        theirs = step(torch.from_numpy(first), torch.from_numpy(second))
        differences.append(abs(ours - theirs))
        print(f"{f'step {number + 1}':16}{ours:16.6f}{theirs:20.6f}", flush=True)
    judged = differences if case.method == "moco" else differences[:1]
    return int(not (judged[0] <= LIMITS[0] and max(judged) <= LIMITS[1]))


if __name__ == "__main__":
    main()
