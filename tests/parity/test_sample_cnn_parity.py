"""SampleCNN in its three forms, filled by rule, against what the original PyTorch code computes."""

from functools import partial

import pytest
from fixtures import Case, compare_case

pytestmark = pytest.mark.keras


def _layers(*numbers: int) -> dict[str, str]:
    # The first and the last layer do not pool.
    return {f"after__layer{n}": f"layer{n}_relu" if n in (1, 11) else f"layer{n}" for n in numbers}


_case = partial(Case, backend_layout=True)

CASES = {
    "samplecnn": _case("sample-cnn", "sample-cnn", _layers(1, 2, 5, 10, 11)),
    "samplecnn_se": _case(
        "sample-cnn-se", "sample-cnn-se", _layers(1, 2, 5, 11) | {"after__dense1": "dense"}
    ),
    "clmr_samplecnn": _case(
        "sample-cnn-clmr",
        "clmr",
        {
            "after__sequential_0": "layer1_relu",
            "after__sequential_1": "layer2",
            "after__sequential_5": "layer6",
            "after__sequential_9": "layer10",
            "after__sequential_10": "layer11_relu",
        },
    ),
}

#: For the test and for `tests/parity_report.py`.
COMPARISONS = {fixture: partial(compare_case, fixture, case) for fixture, case in CASES.items()}


@pytest.mark.parametrize("fixture", COMPARISONS)
def test_equals_the_original(fixture):
    comparison = COMPARISONS[fixture]()
    assert not comparison.failures
    assert "logits" in {row.array for row in comparison.rows}
