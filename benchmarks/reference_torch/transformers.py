"""Networks with attention: CNNSA, Music Tagging Transformer, Swin, SpecTNT."""

import functools
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reference_torch.blocks import Apply, Residual, Shortcut, attend, image, sequence


class Encoder(nn.Module):
    """A layer of BERT."""

    def __init__(self, width: int, heads: int, inner_width: int):
        super().__init__()
        self.heads = heads

        def output(inputs: int) -> nn.ModuleDict:
            norm = nn.LayerNorm(width, eps=1e-12)
            return nn.ModuleDict({"dense": nn.Linear(inputs, width), "LayerNorm": norm})

        parts = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(parts), "output": output(width)})
        self.intermediate = sequence(dense=nn.Linear(width, inner_width), gelu=nn.GELU())
        self.output = output(inner_width)

    def forward(self, x):
        attended = attend(*(part(x) for part in self.attention["self"].values()), self.heads)
        output = self.attention["output"]
        x = output["LayerNorm"](x + output["dense"](attended))
        return self.output["LayerNorm"](x + self.output["dense"](self.intermediate(x)))


def cnnsa(
    *,
    widths=(128, 128, 256, 256, 256, 256, 256),
    strides=(2, 2, 2, 1, 1, 1, 1),
    encoders=2,
    heads=8,
    inner_width=1024,
    classes,
):
    width = widths[-1]
    blocks = {
        f"layer{n}": Residual(2, *channels, stride=(2, stride))
        for n, (channels, stride) in enumerate(zip(pairwise((1, *widths)), strides, strict=True), start=1)
    }
    token = torch.tensor(np.random.RandomState(0).random_sample((1, 1, width)), dtype=torch.float32)

    def tokens(x):
        """`(batch, width, 1, steps)` to `(batch, 1 + steps, width)`."""
        return torch.cat([token.expand(len(x), -1, -1), x.squeeze(2).transpose(1, 2)], 1)

    return sequence(
        image=image(),
        spec_bn=nn.BatchNorm2d(1),
        **blocks,
        tokens=Apply(tokens),
        encoder=sequence(layer=nn.Sequential(*(Encoder(width, heads, inner_width) for _ in range(encoders)))),
        first=Apply(lambda x: x[:, 0]),
        pooler=sequence(dense=nn.Linear(width, width), tanh=nn.Tanh()),
        dense=nn.Linear(width, classes),
    )


class Attention(nn.Module):
    """Self-attention with query, key and value in one matrix."""

    def __init__(self, width: int, heads: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x):
        return self.to_out(attend(*self.to_qkv(x).chunk(3, -1), self.heads))


def encoder(width: int, heads: int, inner_width: int, qkv_bias: bool) -> nn.Sequential:
    """Attention, then two linear layers, each normalised before."""
    parts = {"0": nn.Linear(width, inner_width), "1": nn.GELU(), "3": nn.Linear(inner_width, width)}
    branches = Attention(width, heads, qkv_bias), sequence(net=sequence(**parts))
    return nn.Sequential(*(Shortcut(sequence(norm=nn.LayerNorm(width), fn=fn)) for fn in branches))


class MusicTaggingTransformer(nn.Module):
    def __init__(
        self,
        *,
        n_mels=128,
        conv_width=128,
        embed_dim=256,
        depth=4,
        heads=8,
        mlp_ratio=4,
        positions=513,
        classes,
    ):
        super().__init__()
        pools = ((2, 2), (2, 2), (2, 1))
        blocks = {
            f"layer{n}": Residual(2, inputs, conv_width, pool=pool)
            for n, (inputs, pool) in enumerate(zip((1, conv_width, conv_width), pools, strict=True), start=1)
        }
        self.frontend = sequence(
            image=image(),
            input_bn=nn.BatchNorm2d(1),
            **blocks,
            sequence=Apply(lambda x: x.flatten(1, 2).transpose(1, 2)),
            fc=nn.Linear(conv_width * (n_mels // 8), embed_dim),
        )
        self.cls_token = nn.Parameter(torch.zeros(embed_dim))
        self.pos_embedding = nn.Parameter(torch.zeros(1, positions, embed_dim))

        layers = (encoder(embed_dim, heads, mlp_ratio * embed_dim, qkv_bias=False) for _ in range(depth))
        self.transformer = sequence(layers=nn.Sequential(*layers))
        self.mlp_head = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, classes))

    def forward(self, x):
        x = self.frontend(x)
        x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], 1)
        return self.mlp_head(self.transformer(x + self.pos_embedding[:, : x.shape[1]])[:, 0])


@functools.lru_cache
def _mask(height: int, width: int, window: int, shift: int) -> torch.Tensor:
    """-100 for pairs of tokens that are no neighbours, `(windows, 1, window**2, window**2)`."""

    def regions(length: int):
        position = torch.arange(length + -length % window)
        return (2 * (position >= length)).roll(-shift) + (position >= len(position) - shift)

    labels = 4 * regions(height)[:, None] + regions(width)
    labels = _windows(labels[None, :, :, None], window).squeeze(-1)
    return -100.0 * (labels[:, None, :, None] != labels[:, None, None, :])


def _windows(x, window: int):
    """`(batch, height, width, channels)` to `(batch * windows, window**2, channels)`."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    return x.flatten(3, 4).flatten(0, 2)


class WindowAttention(nn.Module):
    def __init__(self, width: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        tokens = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        rows, columns = (tokens[:, None] - tokens + window - 1).unbind(-1)
        self.register_buffer("index", rows * (2 * window - 1) + columns, persistent=False)

    def forward(self, x):
        batch, height, width, _ = x.shape
        window, shift = self.window, self.shift
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        grid = (batch, x.shape[1] // window, x.shape[2] // window)
        x = _windows(x.roll((-shift, -shift), (1, 2)) if shift else x, window)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1).unsqueeze(0)
        if shift or len(x) * window**2 > batch * height * width:
            bias = (bias + _mask(height, width, window, shift)).repeat(batch, 1, 1, 1)
        x = self.proj(attend(*self.qkv(x).chunk(3, -1), self.heads, bias))
        x = x.unflatten(1, (window, window)).unflatten(0, grid).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return (x.roll((shift, shift), (1, 2)) if shift else x)[:, :height, :width]


class SwinBlock(nn.Module):
    def __init__(self, width: int, heads: int, window: int, shift: int, mlp_ratio: int):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), WindowAttention(width, heads, window, shift)
        first, second = nn.Linear(width, mlp_ratio * width), nn.Linear(mlp_ratio * width, width)
        self.norm2, self.mlp = nn.LayerNorm(width), sequence(fc1=first, gelu=nn.GELU(), fc2=second)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def _merge(x):
    """2x2 neighbours, column by column, to channels."""
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    return torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)


class RowPositions(nn.Module):
    """Adds a learned vector to each row of an image, `(batch, height, width, channels)`."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(rows, 1, width))

    def forward(self, x):
        return x + self.table


def _pad_as_keras(x):
    """Zeros around an image that a convolution of 3x3 and stride 2 halves, rounding up."""
    height, width = x.shape[2:]
    return F.pad(x, (width % 2, 1, height % 2, 1))


def _stem(widths):
    """Convolutions that halve an image of one channel, each normalised."""
    parts = {}
    for number, (before, width) in enumerate(pairwise((1, *widths)), start=1):
        conv = nn.Conv2d(before, width, 3, stride=2, bias=False)
        parts |= {f"pad{number}": Apply(_pad_as_keras), f"conv{number}": conv}
        parts |= {f"norm{number}": nn.BatchNorm2d(width), f"relu{number}": nn.ReLU()}
    return sequence(**parts)


def swin(
    *,
    n_mels=128,
    patch_size=4,
    embed_dim=96,
    depths=(2, 2, 6, 2),
    heads=(3, 6, 12, 24),
    window=7,
    mlp_ratio=4,
    frequency_positions=False,
    input_mean=0.0,
    input_std=1.0,
    stem=(),
    classes,
):
    stages, width, rows = [], embed_dim, -(-n_mels // patch_size)
    embed = nn.Conv2d(stem[-1], embed_dim, 1) if stem else nn.Conv2d(1, embed_dim, patch_size, patch_size)
    positions = {"positions": RowPositions(rows, embed_dim)} if frequency_positions else {}
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True), start=1):
        side = min(window, rows)
        shifts = [side // 2 if block % 2 and rows > side else 0 for block in range(depth)]
        parts = {"blocks": nn.Sequential(*(SwinBlock(width, count, side, s, mlp_ratio) for s in shifts))}
        if stage < len(depths):
            norm, reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)
            parts["downsample"] = sequence(merge=Apply(_merge), norm=norm, reduction=reduction)
            width, rows = 2 * width, -(-rows // 2)
        stages.append(sequence(**parts))
    return sequence(
        image=image(),
        standardize=Apply(lambda x: (x - input_mean) / input_std),
        stem=_stem(stem),
        patch_embed=sequence(
            proj=embed,
            channels_last=Apply(lambda x: x.permute(0, 2, 3, 1)),
            norm=nn.LayerNorm(embed_dim),
        ),
        **positions,
        layers=nn.Sequential(*stages),
        norm=nn.LayerNorm(width),
        mean=Apply(lambda x: x.mean((1, 2))),
        head=nn.Linear(width, classes),
    )


class SpecTNTBlock(nn.Module):
    def __init__(self, spectral_dim: int, temporal_dim: int, heads: tuple[int, int]):
        super().__init__()
        self.to_spectral = nn.Linear(temporal_dim, spectral_dim)
        self.to_temporal = nn.Linear(spectral_dim, temporal_dim)
        self.spectral = encoder(spectral_dim, heads[0], spectral_dim, qkv_bias=True)
        self.temporal = encoder(temporal_dim, heads[1], temporal_dim, qkv_bias=True)

    def forward(self, spectral, temporal):
        """`(batch, steps, 1 + bins, width)` and `(batch, clip tokens + steps, width)` to the same."""
        clip_tokens = temporal.shape[1] - spectral.shape[1]
        spectral[:, :, 0] += self.to_spectral(temporal[:, clip_tokens:])
        spectral = self.spectral(spectral)
        told = F.pad(self.to_temporal(spectral[:, :, 0]), (0, 0, clip_tokens, 0))
        return spectral, self.temporal(temporal + told)


class SpecTNT(nn.Module):
    def __init__(
        self,
        *,
        n_mels=128,
        spectral_dim=96,
        temporal_dim=128,
        depth=3,
        spectral_heads=4,
        temporal_heads=8,
        positions=512,
        clip_token=True,
        classes,
    ):
        super().__init__()
        residual = Residual(2, 1, spectral_dim, pool=(1, 4))
        self.frontend = sequence(image=image(), input_norm=nn.BatchNorm2d(1), residual=residual)
        self.temporal_embedding = nn.Parameter(torch.zeros(positions, temporal_dim))
        self.frequency_class_token = nn.Parameter(torch.zeros(spectral_dim))
        self.frequency_positions = nn.Parameter(torch.zeros(1 + n_mels, spectral_dim))
        self.clip_token = nn.Parameter(torch.zeros(temporal_dim)) if clip_token else None
        heads = (spectral_heads, temporal_heads)
        self.blocks = nn.ModuleList(SpecTNTBlock(spectral_dim, temporal_dim, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(temporal_dim), nn.Linear(temporal_dim, classes)

    def forward(self, x):
        x = self.frontend(x).transpose(1, 3)  # (batch, steps, bins, channels)
        batch, steps = x.shape[:2]
        temporal = self.temporal_embedding[:steps].expand(batch, -1, -1)
        if self.clip_token is not None:
            temporal = torch.cat([self.clip_token.expand(batch, 1, -1), temporal], 1)
        token = self.frequency_class_token.expand(batch, steps, 1, -1)
        spectral = torch.cat([token, x], 2) + self.frequency_positions
        for block in self.blocks:
            spectral, temporal = block(spectral, temporal)
        if self.clip_token is None:
            return self.head(self.norm(temporal).mean(1))
        return self.head(self.norm(temporal[:, 0]))
