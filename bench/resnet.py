"""A convolutional network as large as ResNet-50, with any weights: only its size matters.

The layers are those of "Deep Residual Learning for Image Recognition" (He et al., 2015), table 1.
"""

import warnings
from pathlib import Path

import torch
from torch import nn

# Of each stage: blocks, channels inside a block, stride of its first block.
STAGES = [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)]
WIDER = 4  # how many times more channels leave a block than there are inside it
CLASSES = 1000
PICTURE = (3, 224, 224)


class Block(nn.Module):
    """Three convolutions around which the input is carried."""

    def __init__(self, wide: int, inside: int, stride: int) -> None:
        super().__init__()
        out = inside * WIDER
        self.way = nn.Sequential(
            *_convolution(wide, inside, 1, 1),
            nn.ReLU(),
            *_convolution(inside, inside, 3, stride),
            nn.ReLU(),
            *_convolution(inside, out, 1, 1),
        )
        same = wide == out and stride == 1
        self.around = nn.Identity() if same else nn.Sequential(*_convolution(wide, out, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, wide, height, width] to [rows, 4 inside, height / stride, width / stride]."""
        result: torch.Tensor = torch.relu(self.way(x) + self.around(x))
        return result


def network() -> nn.Module:
    """[rows, 3, 224, 224] to the probabilities of 1,000 classes; about 100 MB of weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    wide = 64
    for blocks, inside, stride in STAGES:
        for number in range(blocks):
            layers.append(Block(wide, inside, stride if number == 0 else 1))
            wide = inside * WIDER
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, CLASSES), nn.Softmax(-1)]
    return nn.Sequential(*layers).eval()


def save(path: Path) -> None:
    """Write the network as an ONNX file with a variable number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own
        torch.onnx.export(
            network(),
            (torch.zeros(2, *PICTURE),),
            path,
            input_names=["x"],
            output_names=["p"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def _convolution(wide: int, deep: int, side: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(wide, deep, side, stride, side // 2, bias=False)
    return [convolution, nn.BatchNorm2d(deep)]
