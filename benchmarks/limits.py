"""What the machine can do at most: large matrix products, and reading and writing memory.

    python benchmarks/limits.py

Products of 2048x2048 float32 matrices, with what each library has for them: the best of them is what other
scripts call share 1. Memory: `a + b` to `c` in blocks, in NumPy, of arrays far larger than the caches, with
as many threads as allowed; two arrays are read and one is written (that writing reads first is not counted).
"""

import statistics
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import turns
from turns import PYTORCH, Table, Workers, set_pass, timed

MATRIX = 2048
#: Numbers in each of the three arrays, and in a block.
ARRAY, BLOCK = 1 << 26, 1 << 16


def main() -> None:
    parser = turns.parser(__doc__)
    turns.add_options(parser, repeats=5)
    options = turns.parse(parser)
    with Workers((PYTORCH, *options.backends), options) as workers:
        table = Table("matrix products with", "GFLOP/s")
        rates = {}
        for name, worker in workers.items():
            rates[name] = worker.submit(matrix_gflops, name, options.repeats).result()
            table.row(name, f"{rates[name]:.0f}")
        memory = workers[PYTORCH].submit(memory_gigabytes, options.threads, options.repeats).result()
        versions = workers.versions()
    print(f"\nMemory at {memory:.1f} GB/s. {turns.conditions(options)}")
    turns.write_json(options, versions=versions, matrix_gflops=rates, memory_gigabytes=memory)


# ---- in the process that is measured -----------------------------------------------------------------------


def matrix_gflops(process: str, repeats: int = 5) -> float:
    """Return the rate of large matrix products, with whatever library the process has for them."""
    matrix = np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32)
    if process == PYTORCH:
        import torch

        tensor, to_numpy = torch.from_numpy(matrix), torch.Tensor.numpy
    else:
        from keras import ops

        tensor, to_numpy = ops.convert_to_tensor(matrix), ops.convert_to_numpy
    set_pass(lambda: to_numpy(tensor @ tensor))
    return 2 * MATRIX**3 / statistics.median(timed() for _ in range(repeats)) / 1e9


def memory_gigabytes(threads: int, repeats: int = 5) -> float:
    """Return the rate at which memory is read and written, in 10^9 bytes a second."""
    a, b, c = (np.full(ARRAY, value, np.float32) for value in (1, 2, 0))

    def add(start: int) -> None:
        for begin in range(start, start + ARRAY // threads, BLOCK):
            block = slice(begin, begin + BLOCK)
            np.add(a[block], b[block], out=c[block])

    with ThreadPoolExecutor(threads) as pool:
        set_pass(lambda: list(pool.map(add, range(0, ARRAY, ARRAY // threads))))
        return 3 * a.nbytes / statistics.median(timed() for _ in range(repeats)) / 1e9


if __name__ == "__main__":
    main()
