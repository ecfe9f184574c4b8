"""Music Tagging Transformers, filled by rule, against what the authors' PyTorch code computes."""

import pytest
from fixtures import Case, build, compare, count_parameters, rule_weights, specification

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
CONFIGS = {
    "mtt_teacher": "music-tagging-transformer",
    "mtt_student": "music-tagging-transformer-student",
}


@pytest.mark.parametrize("fixture", CONFIGS)
def test_equals_the_original(fixture):
    case = Case(CONFIGS[fixture], "music-tagging-transformer", LAYERS, frozenset(TOKENS.values()))
    classifier = build(case, rule_weights(fixture))
    assert count_parameters(classifier) == specification(fixture)["trainable_parameters"]
    rows = compare(fixture, case, classifier)
    assert {"front_end", "logits", "body_logits"} <= {row.array for row in rows}
    for row in rows:
        assert row.difference <= row.limit, row


def test_names_of_the_published_files_are_understood():
    # They stand below `network.`; the student's file holds its teacher, too.
    state = {f"network.{name}": value for name, value in rule_weights("mtt_student").items()}
    teacher = {f"teacher.{name}": value for name, value in rule_weights("mtt_teacher").items()}
    case = Case(CONFIGS["mtt_student"], "music-tagging-transformer")
    assert build(case, state | teacher).head.kernel.shape == (64, 50)
