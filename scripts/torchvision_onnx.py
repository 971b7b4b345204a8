"""Exports torchvision's models with random weights as ONNX files with test data, for `glimpse onnx check`.

Run it with a Python that has torch, torchvision and onnx (Debian: python3-torchvision, python3-onnx):

    python3 scripts/torchvision_onnx.py FOLDER [NAME ...]

Each NAME becomes FOLDER/NAME/model.onnx with test_data_set_0, whose output PyTorch computed. Weights and pictures are random, from
a fixed seed, so that nothing is downloaded.
"""

import sys
from pathlib import Path

import onnx
import torch
import torchvision
from onnx import numpy_helper

CLASSIFIERS = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf",
    "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "vgg11", "vgg16_bn", "vit_b_16",
    "wide_resnet50_2",
]  # fmt: skip
SEGMENTERS = ["deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"]
SIDES = {"inception_v3": 299}
OPSET = {"convnext_tiny": 17, "swin_t": 17, "vit_b_16": 17}


class Map(torch.nn.Module):
    """The score map of a segmentation model, which gives a dictionary."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)["out"]


def model_of(name):
    if name in SEGMENTERS:
        return Map(getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None))
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(weights=None, **options)


def export(name, folder):
    torch.manual_seed(0)
    model = model_of(name).eval()
    side = SIDES.get(name, 224)
    picture = torch.randn(1, 3, side, side)
    # A head that begins as zeros would hide everything before it.
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.05)
    # Statistics of a batch give each layer inputs of one size: with those of a new model, deep ones overflow or vanish.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.train()
    with torch.no_grad():
        model(torch.randn(4, 3, side, side))
    model.eval()
    with torch.no_grad():
        expected = model(picture)
    data = folder / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(model, picture, str(folder / name / "model.onnx"), input_names=["x"], output_names=["y"], opset_version=OPSET.get(name, 13))
    for kind, value in (("input", picture), ("output", expected)):
        (data / f"{kind}_0.pb").write_bytes(numpy_helper.from_array(value.numpy(), {"input": "x", "output": "y"}[kind]).SerializeToString())
    print(name, list(expected.shape), onnx.__version__, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for chosen in sys.argv[2:] or CLASSIFIERS + SEGMENTERS:
        export(chosen, Path(sys.argv[1]))
