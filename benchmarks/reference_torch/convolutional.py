"""Convolutional networks: the SMC-2020 family, SampleCNN, the two ResNets."""

import functools
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from reference_torch.blocks import (
    CONV,
    NORM,
    Residual,
    attend,
    conv_block,
    dense_block,
    image,
    maximum,
    mean,
    sequence,
)


def fcn(
    *,
    widths=(64, 128, 128, 128, 64),
    pools=((2, 4), (2, 4), (2, 4), (3, 5), (4, 4)),
    activation="relu",
    classes,
):
    activation = {"relu": nn.ReLU, "elu": nn.ELU}[activation]
    blocks = {
        f"layer{n}": conv_block(2, *channels, pool=tuple(pool), activation=activation)
        for n, (channels, pool) in enumerate(zip(pairwise((1, *widths)), pools, strict=True), start=1)
    }
    dense = nn.Linear(widths[-1], classes)
    return sequence(image=image(), spec_bn=nn.BatchNorm2d(1), **blocks, mean=mean(), dense=dense)


class LastStep(nn.GRU):
    """Gated recurrent units: `(batch, width, 1, steps)` to the last step's output."""

    def forward(self, x):
        return super().forward(x.squeeze(2).transpose(1, 2))[0][:, -1]


def crnn(*, widths=(64, 128, 128, 128), pools=(2, 3, 4, 4), units=32, classes):
    blocks = {
        f"layer{n}": conv_block(2, *channels, pool=pool)
        for n, (channels, pool) in enumerate(zip(pairwise((1, *widths)), pools, strict=True), start=1)
    }
    blocks[f"layer{len(widths) + 1}"] = LastStep(widths[-1], units, 2, batch_first=True)
    return sequence(image=image(), spec_bn=nn.BatchNorm2d(1), **blocks, dense=nn.Linear(units, classes))


def short_chunk(*, widths=(128, 128, 256, 256, 256, 256, 512), residual=False, classes):
    blocks = {
        f"layer{n}": Residual(2, *channels, stride=2) if residual else conv_block(2, *channels, pool=2)
        for n, channels in enumerate(pairwise((1, *widths)), start=1)
    }
    head = dense_block(widths[-1], classes)
    return sequence(image=image(), spec_bn=nn.BatchNorm2d(1), **blocks, max=maximum(), **head)


def harmonic_cnn(
    *,
    n_harmonics=6,
    widths=(128, 128, 128, 128, 256, 256, 256),
    pools=((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 3), (2, 3)),
    classes,
):
    blocks = {
        f"layer{n}": (Residual if channels[0] == channels[1] else conv_block)(2, *channels, pool=pool)
        for n, (channels, pool) in enumerate(
            zip(pairwise((n_harmonics, *widths)), pools, strict=True), start=1
        )
    }
    head = dense_block(widths[-1], classes)
    return sequence(hstft_bn=nn.BatchNorm2d(n_harmonics), **blocks, max=maximum(), **head)


class MusiCNN(nn.Module):
    """Both published forms; the original of Pons has ReLU before batch normalisation."""

    def __init__(
        self,
        *,
        timbral=(67, 38),
        temporal=(129, 65, 33),
        front_widths=(204, 51),
        mid_width=64,
        dense_width=200,
        original=False,
        classes,
    ):
        super().__init__()
        self.original, epsilon = original, 1e-3 if original else 1e-5

        def conv(dims, inputs, outputs, kernel, padding="same"):
            convolution = CONV[dims](inputs, outputs, kernel, padding=padding)
            norm, relu = NORM[dims](outputs, epsilon), nn.ReLU()
            after = {"relu": relu, "bn": norm} if original else {"bn": norm, "relu": relu}
            return sequence(conv=convolution, **after)

        vertical, horizontal = front_widths
        self.spec_bn = nn.BatchNorm2d(1, epsilon)
        self.layers = nn.ModuleList([conv(2, 1, vertical, (height, 7), (0, 3)) for height in timbral])
        for length in temporal:
            self.layers.append(
                conv(2, 1, horizontal, (1, length)) if original else conv(1, 1, horizontal, length)
            )
        front = len(timbral) * vertical + len(temporal) * horizontal
        self.layer1 = conv(1, front, mid_width, 7)
        self.layer2, self.layer3 = conv(1, mid_width, mid_width, 7), conv(1, mid_width, mid_width, 7)
        pooled = 2 * (front + 3 * mid_width)
        self.pool_bn = nn.BatchNorm1d(pooled, epsilon) if original else nn.Identity()
        self.dense1, self.bn = nn.Linear(pooled, dense_width), nn.BatchNorm1d(dense_width, epsilon)
        self.dense2 = nn.Linear(dense_width, classes)

    def forward(self, x):
        x = self.spec_bn(x.unsqueeze(1))
        bands_mean = x.mean(2)
        over_bands = [isinstance(layer.conv, nn.Conv2d) for layer in self.layers]
        front = [
            layer(x).amax(2) if over else layer(bands_mean)
            for layer, over in zip(self.layers, over_bands, strict=True)
        ]
        steps = [torch.cat(front, 1)]
        steps.append(self.layer1(steps[0]))
        for layer in (self.layer2, self.layer3):
            steps.append(layer(steps[-1]) + steps[-1])
        x = torch.cat(steps, 1)
        x = self.dense1(self.pool_bn(torch.cat([x.amax(2), x.mean(2)], 1)))
        return self.dense2(self.bn(F.relu(x)) if self.original else F.relu(self.bn(x)))


def sample_cnn(
    *,
    widths=(128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512),
    squeeze_excitation=False,
    stem_padding=1,
    last_kernel=1,
    classes,
):
    block = functools.partial(Residual, excite=True) if squeeze_excitation else conv_block
    blocks = {"layer1": block(1, 1, widths[0], stride=3, padding=stem_padding)}
    for n, channels in enumerate(pairwise(widths), start=2):
        last = n == len(widths)
        blocks[f"layer{n}"] = block(1, *channels, last_kernel if last else 3, pool=None if last else 3)
    width = widths[-1]
    head = dense_block(width, classes) if squeeze_excitation else {"dense": nn.Linear(width, classes)}
    return sequence(steps=image(), **blocks, mean=mean(), **head)


class HalvingConv2d(nn.Conv2d):
    """Stride 2 with edges as Keras and TensorFlow have them: even sizes get less in front than behind."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(inputs, outputs, kernel, 2, bias=False)

    def forward(self, x):
        edges = [edge for size in (x.shape[3], x.shape[2]) for edge in self._edges(size)]
        return super().forward(F.pad(x, edges))

    def _edges(self, size: int) -> tuple[int, int]:
        total = self.kernel_size[0] - 2 + size % 2
        return total // 2, total - total // 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut that averages before it projects."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        if stride > 1:
            self.conv1 = HalvingConv2d(inputs, outputs, 3)
        else:
            self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        shortcut = {}
        if stride > 1:
            shortcut["pool"] = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        if inputs != outputs:
            shortcut |= {"conv": nn.Conv2d(inputs, outputs, 1, bias=False), "norm": nn.BatchNorm2d(outputs)}
        self.shortcut = sequence(**shortcut)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(*, stem_width=24, widths=(24, 48, 96), blocks=(2, 2, 2), classes):
    stem = {"conv": HalvingConv2d(1, stem_width, 5), "norm": nn.BatchNorm2d(stem_width), "relu": nn.ReLU()}
    parts = {"stem": sequence(**stem)}
    for stage, ((inputs, width), count) in enumerate(
        zip(pairwise((stem_width, *widths)), blocks, strict=True)
    ):
        for block in range(count):
            first = block == 0
            parts[f"stage{stage}_block{block}"] = BasicBlock(
                inputs if first else width, width, 2 if first and stage > 0 else 1
            )
    return sequence(image=image(), **parts, mean=mean(), head=nn.Linear(widths[-1], classes))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; both take means before the last one."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = nn.Identity()
        if stride > 1 or inputs != outputs:
            conv, norm = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            self.downsample = sequence(pool=nn.AvgPool2d(stride), **{"0": conv, "1": norm})

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(self.pool(y))) + self.downsample(x))


class AttentionPool(nn.Module):
    """What the mean of all points attends to."""

    def __init__(self, points: int, width: int, heads: int, outputs: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(1 + points, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, outputs)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        return self.c_proj(attend(self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x), self.heads)[:, 0])


def multi_view_resnet(
    *, n_mels=128, frames=126, width=16, blocks=(3, 4, 6, 3), heads=8, embedding_dim=1024, classes
):
    stem = {}
    for n, (inputs, outputs) in enumerate(pairwise((1, width // 2, width // 2, width)), start=1):
        stem[f"conv{n}"] = nn.Conv2d(inputs, outputs, 3, 2 if n == 1 else 1, 1, bias=False)
        stem |= {f"bn{n}": nn.BatchNorm2d(outputs), f"relu{n}": nn.ReLU()}
    stages, inputs = {}, width
    for stage, count in enumerate(blocks):
        layer = []
        for block in range(count):
            layer.append(Bottleneck(inputs, width * 2**stage, 2 if stage > 0 and block == 0 else 1))
            inputs = 4 * width * 2**stage
        stages[f"layer{stage + 1}"] = nn.Sequential(*layer)
    points = ((n_mels + 1) // 2 // 2 ** len(blocks)) * ((frames + 1) // 2 // 2 ** len(blocks))
    embedding = sequence(
        image=image(),
        **stem,
        pool=nn.AvgPool2d(2),
        **stages,
        attnpool=AttentionPool(points, inputs, heads, embedding_dim),
    )
    return sequence(backbone=sequence(embedding=embedding), head=nn.Linear(embedding_dim, classes))
