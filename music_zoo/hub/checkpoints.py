"""Reads original checkpoints as plain arrays: PyTorch's files without PyTorch, HDF5 files without Keras.

A PyTorch file is a pickle, and a pickle is a program. The reader here knows the few names that a file of
tensors needs; at any other name it stops, before anything has been called.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from music_zoo.errors import PresetError

# What torch.save of before PyTorch 1.6, which makes no archive, writes before the rest.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# The kinds of storage, each with the type of its numbers.
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


class _Storage(NamedTuple):
    """A run of numbers that lies elsewhere in the file, and that tensors are views of."""

    key: str
    dtype: str
    size: int

    def decoded(self, data: bytes) -> np.ndarray:
        numbers = np.frombuffer(data, self.dtype)
        if numbers.size != self.size:
            raise ValueError(f"{numbers.size} numbers in place of {self.size}")
        return numbers


class _Tensor(NamedTuple):
    """A view of a storage, to be cut out once the storage is read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def cut_from(self, numbers: np.ndarray) -> np.ndarray:
        whole = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or any(type(n) is not int or n < 0 for n in whole):
            raise ValueError(f"a tensor of shape {self.shape} and strides {self.strides}")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if count and not (last < numbers.size and count <= numbers.size):
            raise ValueError(f"a tensor of shape {self.shape} that reaches beyond its {numbers.size} numbers")
        strides = [step * numbers.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Builds dicts of `_Tensor`, and nothing else."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        # What is returned is immutable or made anew: a pickle may also set attributes.
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch", _ if name in _STORAGES:
                return _STORAGES[name]
            case "torch._utils", "_rebuild_tensor_v2":
                return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
            case "torch._utils", "_rebuild_parameter":
                return lambda tensor, *_: tensor
        raise PresetError(
            f"the file wants to use {module}.{name}, which a file of tensors does not need. It was not run; "
            "take a file that holds tensors only"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case "storage", str(dtype), str(key), str(), int(size), *_ if dtype in _STORAGES.values():
                return self.storages.setdefault(key, _Storage(key, dtype, size))
        raise ValueError(f"a reference to {pid!r}")


def read_pytorch(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a `.pth`, `.pt` or `.ckpt` file, in either of PyTorch's two forms.

    Args:
        path: A file of a state dict, or of a dict that holds one under `"state_dict"` (Lightning).

    Returns:
        The arrays by name.

    Raises:
        PresetError: The file is no such checkpoint, is damaged, or wants to use anything but tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content, data = (_open_zip if zipfile.is_zipfile(file) else _open_legacy)(file)
            if isinstance(content, dict) and "state_dict" in content:
                content = content["state_dict"]
            if not isinstance(content, dict):
                raise ValueError(f"{type(content).__name__} in place of a dict")
            for name, value in content.items():
                if not isinstance(name, str) or not isinstance(value, _Tensor):
                    raise ValueError(f"{name!r}, which is no tensor")
            return {
                name: tensor.cut_from(tensor.storage.decoded(data(tensor.storage)))
                for name, tensor in content.items()
            }
    except PresetError as error:
        raise PresetError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise PresetError(
            f"{path}: expected a PyTorch checkpoint, a dict of tensors; found {error!r}. "
            "It may be damaged or incomplete: get it again"
        ) from error


def _open_zip(file: IO[bytes]) -> tuple[Any, Callable[[_Storage], bytes]]:
    """The form since PyTorch 1.6: an uncompressed archive of one pickle and one file for each storage."""
    archive = zipfile.ZipFile(file)
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise ValueError("a compressed archive, which PyTorch does not make")
    (main,) = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    folder = main.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("numbers in big-endian order")
    content = _Unpickler(BytesIO(archive.read(main))).load()
    return content, lambda storage: archive.read(f"{folder}data/{storage.key}")


def _open_legacy(file: IO[bytes]) -> tuple[Any, Callable[[_Storage], bytes]]:
    """The older form: pickles of a magic number, version, system, content and keys, then the storages."""
    file.seek(0)
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise ValueError("another kind of file")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("numbers in big-endian order")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    data: dict[str, bytes] = {}
    for key in _Unpickler(file).load():
        head, storage = file.read(8), unpickler.storages[key]
        count = int.from_bytes(head, "little")
        if len(head) != 8 or count != storage.size:
            raise ValueError(f"a storage of {count} numbers in place of {storage.size}")
        data[key] = file.read(count * np.dtype(storage.dtype).itemsize)
    if file.read(1):
        raise ValueError("more bytes behind the last tensor")
    return content, lambda storage: data[storage.key]


def read_keras_h5(path: str | Path) -> dict[str, np.ndarray]:
    """Read the weights of a model that Keras 2 saved as HDF5.

    Only arrays are read, none of the file's links to elsewhere and nothing of its description of the model.

    Returns:
        The arrays by layer and kind: `conv2d_1/kernel`, `batch_normalization/moving_mean`.

    Raises:
        PresetError: The file is no such checkpoint, or is damaged.
    """
    import h5py  # Keras brings it

    arrays: dict[str, np.ndarray] = {}

    def read(name: str, item: Any) -> None:
        # `layer/layer/kernel_1:0`: the layer's name twice, a number if the graph had another of that name.
        if isinstance(item, h5py.Dataset):
            layer, leaf = name.split("/")[0], name.split("/")[-1].partition(":")[0]
            arrays[f"{layer}/{leaf.rstrip('0123456789').removesuffix('_')}"] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file["model_weights"].visititems(read)
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise PresetError(
            f"{path}: expected an HDF5 file of a Keras model, with model_weights; found {error!r}. "
            "It may be damaged or incomplete: get it again"
        ) from error
    return arrays
