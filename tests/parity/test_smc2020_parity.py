"""The SMC-2020 family, filled by rule, against what the original PyTorch code computes."""

import pytest
from fixtures import build, compare, count_parameters, rule_weights, specification
from smc2020 import CASES

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:.*mel filters catch no frequency bin"),  # as the originals have them
]


@pytest.mark.parametrize("fixture", CASES)
def test_equals_the_original(fixture):
    classifier = build(CASES[fixture], rule_weights(fixture))
    assert count_parameters(classifier) == specification(fixture)["trainable_parameters"]
    rows = compare(fixture, CASES[fixture], classifier)
    assert {"logits", "body_logits"} <= {row.array for row in rows}
    for row in rows:
        assert row.difference <= row.limit, row
