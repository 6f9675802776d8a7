"""A convolutional network of the size of ResNet-50, with random weights.

The layers are those of "Deep Residual Learning for Image Recognition" (He et al., 2015), table 1.
"""

import warnings
from pathlib import Path

import torch
from torch import nn

# The stages, each as: number of blocks, channels inside a block, stride of the first block.
STAGES = [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)]
WIDER = 4  # ratio of the channels that leave a block to those inside it
CLASSES = 1000
PICTURE = (3, 224, 224)


class Block(nn.Module):
    """Three convolutions, to whose output the block's input is added."""

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
        """Map [rows, wide, height, width] to [rows, 4 inside, height / stride, width / stride]."""
        result: torch.Tensor = torch.relu(self.way(x) + self.around(x))
        return result


def network() -> nn.Module:
    """Make the network: [rows, 3, 224, 224] to probabilities, [rows, 1000]; 100 MB of weights."""
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
        warnings.simplefilter("ignore")  # the exporter warns of itself
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
