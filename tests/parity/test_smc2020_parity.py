"""The SMC-2020 family, filled by rule, against what the original PyTorch code computes."""

from functools import partial

import pytest
from fixtures import Case, compare_case

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:.*mel filters catch no frequency bin"),  # as the originals have them
]


def _layers(*numbers: int, **more: str) -> dict[str, str]:
    return {"after__spec_bn": "input_norm"} | {f"after__layer{n}": f"layer{n}" for n in numbers} | more


CASES = {
    "fcn": Case("fcn", "fcn", _layers(1, 3, 5)),
    "crnn": Case("crnn", "crnn", _layers(1, 4, after__layer5="gru_1"), frozenset({"gru_1"})),
    "musicnn_mtat": Case(
        "musicnn-won",
        "musicnn-won",
        {
            "after__spec_bn": "input_norm",
            "after__layers_2": "temporal0_relu",
            "after__layers_4": "temporal2_relu",
            "after__layer1": "mid0_relu",
            "after__layer3": "mid2_relu",
            "after__dense1": "dense",
        },
    ),
    "musicnn_msd": Case(
        "musicnn-won-large", "musicnn-won", {"after__layer3": "mid2_relu", "after__dense1": "dense"}
    ),
    "harmoniccnn": Case(
        "harmonic-cnn",
        "harmonic-cnn",
        {f"after__layer{n}": f"layer{n}" for n in (1, 4, 7)}
        | {"after__hstft_bn": "input_norm", "after__dense1": "dense"},
    ),
    "cnnsa": Case(
        "self-attention-cnn",
        "self-attention-cnn",
        _layers(
            1,
            7,
            after__encoder_layer_0="encoder0_dense_norm",
            after__encoder_layer_1="encoder1_dense_norm",
            after__pooler="pooler",
        ),
        frozenset({"encoder0_dense_norm", "encoder1_dense_norm"}),
    ),
    "shortchunk": Case("short-chunk-cnn", "short-chunk", _layers(1, 4, 7, after__dense1="dense")),
    "shortchunk_res": Case("short-chunk-resnet", "short-chunk", _layers(1, 4, 7, after__dense1="dense")),
}

#: For the test and for `tests/parity_report.py`.
COMPARISONS = {fixture: partial(compare_case, fixture, case) for fixture, case in CASES.items()}


@pytest.mark.parametrize("fixture", COMPARISONS)
def test_equals_the_original(fixture):
    comparison = COMPARISONS[fixture]()
    assert not comparison.failures
    assert "logits" in {row.array for row in comparison.rows}
