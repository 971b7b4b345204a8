"""Goldens of encoders as ONNX: networks of torchvision with random weights, as PyTorch exports them, with PyTorch's features.

    /usr/bin/python3 test/goldens/vit/make_onnx.py     (Debian's python3-torch 1.13 and python3-torchvision 0.14)

Each .onnx.gz goes from pixels to the scores of a classifier. onnx.json has the regions of the last map, row by row, as float32 in base64, of one picture whose
pixel i is sin(i); of the vision transformer the tokens, the class token first.
"""
import base64
import gzip
import io
import json
import pathlib
import warnings

import torch
from torchvision.models import mobilenetv3
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
SIDE = 32

torch.manual_seed(11)
conf = mobilenetv3.InvertedResidualConfig
BLOCKS = [conf(8, 3, 8, 8, True, "RE", 2, 1, 1), conf(8, 5, 16, 12, True, "HS", 2, 1, 1)]
CASES = {
    "mobilenet": (mobilenetv3.MobileNetV3(BLOCKS, 16, num_classes=3), lambda m: m.features),
    "convnext": (ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], layer_scale=0.5, num_classes=3), lambda m: m.features),
    "swin": (SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=3), lambda m: m.norm),
    "torchvision_vit": (VisionTransformer(SIDE, 8, 1, 2, 8, 12, num_classes=3), lambda m: m.encoder),
}
pixels = torch.sin(torch.arange(3 * SIDE * SIDE, dtype=torch.float64)).reshape(1, 3, SIDE, SIDE)
result = {}
for name, (model, part) in CASES.items():
    model.eval()
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape))  # norms and biases, too, are to have an effect
    file = io.BytesIO()
    torch.onnx.export(model, pixels.float(), file, opset_version=16, input_names=["pixels"], output_names=["scores"], dynamic_axes={"pixels": {0: "pictures"}})
    (HERE / f"{name}.onnx.gz").write_bytes(gzip.compress(file.getvalue(), 9, mtime=0))
    seen = []
    part(model).register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        model.double()(pixels)
    [out] = seen
    regions = out.flatten(2).transpose(1, 2) if name in ("mobilenet", "convnext") else out.flatten(1, -2)
    result[name] = {"shape": list(regions.shape[1:]), "values": base64.b64encode(regions.float().numpy().tobytes()).decode()}
(HERE / "onnx.json").write_text(json.dumps(result, indent=1) + "\n")
