"""Music Tagging Transformers, filled by rule, against what the authors' PyTorch code computes."""

from functools import partial

import pytest
from fixtures import Case, build, compare_case, rule_weights

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:.*mel filters catch no frequency bin"),  # as the originals have them
]

TOKENS = {
    "after__frontend": "tokens",
    "after__transformer_layers_0_0": "encoder0_add1",
    "after__transformer_layers_0_1": "encoder0_add2",
    "after__transformer": "encoder3_add2",
}
LAYERS = {"after__frontend_input_bn": "input_norm", "after__frontend_layer1": "layer1"} | TOKENS
CASES = {
    fixture: Case(config, "music-tagging-transformer", LAYERS, frozenset(TOKENS.values()))
    for fixture, config in {
        "mtt_teacher": "music-tagging-transformer",
        "mtt_student": "music-tagging-transformer-student",
    }.items()
}

#: For the test and for `tests/parity_report.py`.
COMPARISONS = {fixture: partial(compare_case, fixture, case) for fixture, case in CASES.items()}


@pytest.mark.parametrize("fixture", COMPARISONS)
def test_equals_the_original(fixture):
    comparison = COMPARISONS[fixture]()
    assert not comparison.failures
    assert {"front_end", "logits", "body_logits"} <= {row.array for row in comparison.rows}


def test_names_of_the_published_files_are_understood():
    # They stand below `network.`; the student's file holds its teacher, too.
    state = {f"network.{name}": value for name, value in rule_weights("mtt_student").items()}
    teacher = {f"teacher.{name}": value for name, value in rule_weights("mtt_teacher").items()}
    assert build(CASES["mtt_student"], state | teacher).head.kernel.shape == (64, 50)
