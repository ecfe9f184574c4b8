"""Checkpoints of the Music Tagging Transformer (minzwon/semi-supervised-music-tagging-transformer)."""

from music_zoo.hub.conversion.table import Table, same

_ATTENTION, _MLP = r"transformer.layers.\1.0.fn", r"transformer.layers.\1.1.fn"

TABLES = {
    "music-tagging-transformer": Table(
        {
            r"backbone\.input_norm": "frontend.input_bn",
            r"backbone\.layer(\d)_residual_conv_(\d)": r"frontend.layer\1.conv_\2",
            r"backbone\.layer(\d)_residual_norm_(\d)": r"frontend.layer\1.bn_\2",
            r"backbone\.tokens": "frontend.fc",
            r"backbone\.encoder(\d)_norm1": rf"{_ATTENTION}.norm",
            r"backbone\.encoder(\d)_attention\.qkv": rf"{_ATTENTION}.fn.to_qkv",
            r"backbone\.encoder(\d)_attention\.output": rf"{_ATTENTION}.fn.to_out.0",
            r"backbone\.encoder(\d)_norm2": rf"{_MLP}.norm",
            r"backbone\.encoder(\d)_mlp1": rf"{_MLP}.fn.net.0",
            r"backbone\.encoder(\d)_mlp2": rf"{_MLP}.fn.net.3",
            r"backbone\.norm": "mlp_head.0",
            "head": "mlp_head.1",
        },
        {
            r"backbone\.class_token\.token": (("cls_token",), same),
            r"backbone\.positions\.table": (("pos_embedding",), lambda table: table[0]),
        },
        # The student's file holds its teacher, too.
        rename=((r"^network\.", ""),),
        constants=(r"spec\.", "teacher"),
    )
}
