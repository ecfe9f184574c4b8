"""What PyTorch and h5py wrote is read as they read it; what is no tensor is refused, and not run."""

import io
import pickle
import zipfile
from collections import OrderedDict

import h5py
import numpy as np
import pytest

from music_zoo.errors import PresetError
from music_zoo.hub.checkpoints import read_keras_h5, read_pytorch

torch = pytest.importorskip("torch")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)


def tensors() -> dict[str, "torch.Tensor"]:
    """Every kind of view: whole, transposed, sliced, shared, of no axis, empty."""
    matrix = torch.arange(12.0).reshape(3, 4)
    return OrderedDict(
        matrix=matrix,
        transposed=matrix.T,
        sliced=matrix[1:, ::2],
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 4),
        parameter=torch.nn.Parameter(torch.ones(2)),
        **{str(dtype): torch.tensor([0, 1, 2]).to(dtype) for dtype in DTYPES},
    )


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    """Writes with torch.save, in one of its two forms, and returns the path."""

    def write(content):
        path = tmp_path / "checkpoint.pth"
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return write


def test_tensors_are_those_of_pytorch(save):
    arrays = read_pytorch(save(tensors()))
    assert list(arrays) == list(tensors())
    for name, tensor in tensors().items():
        expected = tensor.detach().numpy()
        assert arrays[name].dtype == expected.dtype and arrays[name].shape == expected.shape
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].flags.writeable and arrays[name].flags.owndata


def test_a_real_module_and_a_lightning_checkpoint(save):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    expected = {name: value.numpy() for name, value in module.state_dict().items()}
    for content in (
        module.state_dict(),
        {"epoch": 3, "state_dict": module.state_dict(), "loops": [1.5, None]},
    ):
        arrays = read_pytorch(save(content))
        assert list(arrays) == list(expected)
        assert all((arrays[name] == expected[name]).all() for name in expected)


class Planted:
    """Calls a function when unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("hidden_in", ["value", "beside"])
def test_a_pickle_that_wants_more_is_refused_and_not_run(save, tmp_path, hidden_in):
    target = tmp_path / "ran"
    planted = Planted(exec, f"open({str(target)!r}, 'w')")
    content = {"w": planted} if hidden_in == "value" else {"state_dict": tensors(), "callbacks": planted}
    with pytest.raises(PresetError, match=r"wants to use \w+\.exec.*not run"):
        read_pytorch(save(content))
    assert not target.exists()


@pytest.mark.parametrize(
    "name", ["os.system", "torch.load", "torch._utils._rebuild_parameter_with_state", "numpy.dtype"]
)
def test_names_near_the_allowed_ones_are_not_allowed(tmp_path, name):
    module, _, function = name.rpartition(".")
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(f"c{module}\n{function}\n(tR.".encode())
    with pytest.raises(PresetError, match=f"wants to use {name}"):
        read_pytorch(path)


def test_a_whole_module_is_refused(save):
    with pytest.raises(PresetError, match="torch.nn.modules"):
        read_pytorch(save(torch.nn.Linear(1, 1)))


@pytest.mark.parametrize("content", [[1, 2], {"w": 3}, {1: torch.ones(1)}, "text"])
def test_other_content_is_refused(save, content):
    with pytest.raises(PresetError, match="expected a PyTorch checkpoint, a dict of tensors"):
        read_pytorch(save(content))


def test_a_file_cut_anywhere_is_refused(save):
    path = save(tensors())
    data = path.read_bytes()
    for length in [*range(0, len(data), max(1, len(data) // 40)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(PresetError, match="expected a PyTorch checkpoint"):
            read_pytorch(path)


def test_a_count_of_nothing_that_is_cut_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"empty": torch.zeros(0)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PresetError, match="expected a PyTorch checkpoint"):
        read_pytorch(path)


def test_bytes_behind_the_end_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save(tensors(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(PresetError, match="more bytes behind"):
        read_pytorch(path)


def forged(offset, shape, strides) -> bytes:
    """A zip checkpoint of one tensor of 4 numbers, seen through a forged view."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if item == "the storage" else None

    main = io.BytesIO()
    rebuild = Planted(
        torch._utils._rebuild_tensor_v2, "the storage", offset, shape, strides, False, OrderedDict()
    )
    Pickler(main, protocol=2).dump({"w": rebuild})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", main.getvalue())
        file.writestr("archive/data/0", np.arange(4, dtype="<f4").tobytes())
    return archive.getvalue()


@pytest.mark.parametrize(
    "view",
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (-1, (2,), (1,)),
        (3, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (10**9, 10**9), (0, 0)),
        (0, (2.0,), (1,)),
    ],
)
def test_a_view_beyond_its_numbers_is_refused(tmp_path, view):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(forged(2, (1, 2), (2, 1)))
    np.testing.assert_array_equal(read_pytorch(path)["w"], [[2, 3]])
    path.write_bytes(forged(*view))
    with pytest.raises(PresetError, match="a tensor of shape"):
        read_pytorch(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PresetError, match="absent.pth"):
        read_pytorch(tmp_path / "absent.pth")


def write_h5(path, arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[f"model_weights/{name}"] = value


def test_keras_weights_by_layer_and_kind(tmp_path):
    kernel = np.arange(6, dtype="float32").reshape(2, 3)
    names = ["dense/dense/kernel:0", "conv2d_1/conv2d_1/kernel_1:0", "bn/bn/moving_mean_12:0"]
    write_h5(tmp_path / "model.h5", dict.fromkeys(names, kernel))
    arrays = read_keras_h5(tmp_path / "model.h5")
    assert list(arrays) == ["bn/moving_mean", "conv2d_1/kernel", "dense/kernel"]
    np.testing.assert_array_equal(arrays["dense/kernel"], kernel)


def test_links_out_of_a_keras_file_are_not_followed(tmp_path):
    write_h5(tmp_path / "other.h5", {"secret/secret/kernel:0": np.ones(1)})
    write_h5(tmp_path / "model.h5", {"dense/dense/kernel:0": np.ones(1)})
    with h5py.File(tmp_path / "model.h5", "a") as file:
        file["model_weights/linked"] = h5py.ExternalLink("other.h5", "/model_weights/secret")
        file["model_weights/soft"] = h5py.SoftLink("/model_weights/dense")
    assert list(read_keras_h5(tmp_path / "model.h5")) == ["dense/kernel"]


@pytest.mark.parametrize("content", [b"", b"no HDF5", None])
def test_no_keras_file_is_refused(tmp_path, content):
    path = tmp_path / "model.h5"
    if content is None:
        h5py.File(path, "w").close()
    else:
        path.write_bytes(content)
    with pytest.raises(PresetError, match="expected an HDF5 file of a Keras model"):
        read_keras_h5(path)
