"""SampleCNN in its three forms, filled by rule, against what the original PyTorch code computes."""

import pytest
from fixtures import build, compare, count_parameters, rule_weights, specification
from sample_cnn import CASES

pytestmark = pytest.mark.keras


@pytest.mark.parametrize("fixture", CASES)
def test_equals_the_original(fixture):
    classifier = build(CASES[fixture], rule_weights(fixture))
    assert count_parameters(classifier) == specification(fixture)["trainable_parameters"]
    rows = compare(fixture, CASES[fixture], classifier)
    assert "logits" in {row.array for row in rows}
    for row in rows:
        assert row.difference <= row.limit, row
