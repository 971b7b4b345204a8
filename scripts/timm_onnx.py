"""Exports encoders of timm and transformers with random weights as ONNX files with test data, for `glimpse onnx check`.

Run it with a Python that has torch 2.6 or newer, timm, transformers, onnx and onnxscript:

    python3 scripts/timm_onnx.py FOLDER [NAME[:FORM ...] ...]
    python3 scripts/timm_onnx.py --tiny test/goldens/dynamo

Each NAME becomes FOLDER/NAME/model.onnx with test_data_set_0, whose outputs PyTorch computed. A class of transformers has a small
configuration. Without a form, `torch.onnx.export(…, dynamo=True)` writes the file with its own opset. Forms, in any number:

    dyn      an open number of pictures; the test data has two
    legacy   the exporter before it, dynamo=False
    eager    attention as products and a softmax, not as scaled_dot_product_attention
    o23      opset 23, or any other

--tiny writes a ViT and a CNN of a few kB, packed, for the tests. Nothing is downloaded. Weights and pictures are random, from a fixed
seed. Parameters that begin as one number (zeros, layer scales) and statistics become random too: so an output depends on every layer.
"""

import gzip
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from onnx import load, numpy_helper

PLAIN = [
    "cait_xxs24_224", "coatnet_0_rw_224", "convnext_atto", "convnextv2_atto", "crossvit_9_240", "deit3_small_patch16_224", "densenet121",
    "eca_nfnet_l0", "edgenext_small", "efficientnet_b0", "efficientnetv2_rw_t", "eva02_tiny_patch14_224", "fastvit_t8", "hrnet_w18_small",
    "inception_v4", "levit_128s", "mixer_s32_224", "mobilenetv3_small_100", "mobilenetv4_conv_small", "mobilevit_s", "poolformer_s12",
    "pvt_v2_b0", "regnety_002", "repvgg_a0", "resnet50", "resnetv2_50", "resnext50_32x4d", "seresnet50", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256", "tiny_vit_5m_224", "twins_pcpvt_small", "vgg11", "visformer_tiny", "vit_base_patch16_siglip_224",
    "vit_small_patch14_dinov2", "vit_tiny_patch16_224", "xcit_nano_12_p16_224",
    "CLIPVisionModel", "ConvNextModel", "Dinov2Model", "SiglipVisionModel", "ViTModel",
]  # fmt: skip
# torch 2.13 cannot export these otherwise: "Failed to decompose the FX graph", "Failed to convert the exported program".
EAGER = ["beit_base_patch16_224:eager", "hiera_tiny_224:eager", "maxvit_rmlp_pico_rw_256:eager", "BeitModel:eager", "SwinModel:eager"]
FORMS = [
    "cait_xxs24_224:eager", "coatnet_0_rw_224:eager", "convnext_atto:legacy", "levit_128s:dyn", "mobilevit_s:dyn", "resnet50:dyn",
    "swin_tiny_patch4_window7_224:dyn", "swin_tiny_patch4_window7_224:eager", "vit_tiny_patch16_224:dyn", "vit_tiny_patch16_224:eager",
    "vit_tiny_patch16_224:legacy", "vit_tiny_patch16_224:o23", "xcit_nano_12_p16_224:dyn", "BeitModel:dyn:eager", "CLIPVisionModel:dyn",
    "Dinov2Model:legacy", "SwinModel:dyn:eager", "SwinModel:legacy", "ViTModel:dyn", "ViTModel:dyn:o23",
]  # fmt: skip
SIDES = {"vit_small_patch14_dinov2": 224}
WIDTH = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "patch_size": 16}
CONFIGURATIONS = {
    "BeitModel": {**WIDTH, "intermediate_size": 128, "use_relative_position_bias": True},
    "CLIPVisionModel": {**WIDTH, "intermediate_size": 128},
    "ConvNextModel": {"hidden_sizes": [24, 48, 64, 96], "depths": [1, 1, 2, 1], "image_size": 64},
    "Dinov2Model": WIDTH,
    "SiglipVisionModel": {**WIDTH, "intermediate_size": 128},
    "SwinModel": {"image_size": 64, "patch_size": 4, "embed_dim": 24, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "window_size": 4},
    "ViTModel": {**WIDTH, "intermediate_size": 128},
}


class States(torch.nn.Module):
    """The last states and the pooled ones of a model that gives a dictionary."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        made = self.model(pixel_values=pixel_values)
        return made.last_hidden_state, made.pooler_output


def model_of(name, eager):
    """The model, and the side of its pictures."""
    if name in CONFIGURATIONS:
        import transformers

        kind = getattr(transformers, name)
        options = {} if name == "ConvNextModel" else {"attn_implementation": "eager" if eager else "sdpa"}
        configuration = kind.config_class(**CONFIGURATIONS[name], **options)
        return States(kind(configuration)), configuration.image_size
    import timm

    timm.layers.set_fused_attn(not eager)
    model = timm.create_model(name, **({"img_size": SIDES[name]} if name in SIDES else {}))
    return model, SIDES.get(name) or model.pretrained_cfg["input_size"][-1]


def make_plausible(model, side):
    """Random numbers where a new model has one number only; statistics of a batch give each layer inputs of one size."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            first = parameter.flatten()[0].item()
            if parameter.numel() > 1 and (parameter == first).all():
                parameter.copy_((first if first in (0, 1) else 0.3) + 0.1 * torch.randn(parameter.shape, generator=generator))
        norms = [module for module in model.modules() if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
        for norm in norms:
            norm.momentum = None
            norm.train()
        if norms:
            model(torch.randn(2, 3, side, side, generator=generator))
    return model.eval()


def write(model, side, forms, folder):
    """The model as ONNX, with a picture and what PyTorch makes of it."""
    picture = torch.randn(2 if "dyn" in forms else 1, 3, side, side)
    with torch.no_grad():
        made = model(picture)
    outputs = made if isinstance(made, tuple) else (made,)
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    names = [f"y{i}" for i in range(len(outputs))] if len(outputs) > 1 else ["y"]
    opset = next((int(form[1:]) for form in forms if form[1:].isdigit()), None)
    options = {"input_names": ["x"], "output_names": names, **({"opset_version": opset} if opset else {})}
    if "legacy" in forms:
        torch.onnx.export(model, (picture,), str(folder / "model.onnx"), dynamo=False, **({"dynamic_axes": {"x": {0: "N"}}} if "dyn" in forms else {}), **options)
    else:
        shapes = {"dynamic_shapes": ({0: torch.export.Dim("N", min=1, max=64)},)} if "dyn" in forms else {}
        torch.onnx.export(model, (picture,), str(folder / "model.onnx"), dynamo=True, verbose=False, **shapes, **options)
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(picture.numpy(), "x").SerializeToString())
    for i, value in enumerate(outputs):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(value.numpy(), names[i]).SerializeToString())
    return [list(value.shape) for value in outputs]


def export(spec, folder):
    name, *forms = spec.split(":")
    torch.manual_seed(0)
    model, side = model_of(name, "eager" in forms)
    print(spec, write(make_plausible(model.eval(), side), side, forms, folder / spec.replace(":", "-")), flush=True)


class TinyCnn(torch.nn.Module):
    """Convolutions with a normalization, a residual sum, gates of channels, and a head."""

    def __init__(self):
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.stem = torch.nn.Sequential(conv(3, 8, 3, 2, 1, bias=False), norm(8), torch.nn.Hardswish())
        self.wide = torch.nn.Sequential(conv(8, 8, 3, 1, 1, groups=8), norm(8), torch.nn.SiLU(), conv(8, 8, 1), norm(8))
        self.gate = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), conv(8, 4, 1), torch.nn.ReLU(), conv(4, 8, 1), torch.nn.Hardsigmoid())
        self.pool = torch.nn.MaxPool2d(3, 2, 1)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.wide(x)
        x = self.pool(torch.relu(x + y * self.gate(y)))
        return self.head(x.mean((2, 3)))


def tiny_vit():
    import timm

    return timm.models.VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2, num_classes=5, init_values=0.1)


def export_tiny(folder):
    """Two models in the forms that exporters write; the whole model is one file, packed."""
    for name, model, side, forms in (
        ("vit", tiny_vit, 16, ()),
        ("vit-dyn", tiny_vit, 16, ("dyn",)),
        ("vit-o23", tiny_vit, 16, ("o23",)),
        ("vit-legacy", tiny_vit, 16, ("legacy",)),
        ("cnn", TinyCnn, 12, ()),
        ("cnn-dyn", TinyCnn, 12, ("dyn",)),
    ):
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            write(make_plausible(model().eval(), side), side, forms, place)
            whole = load(place / "model.onnx")
            for node in whole.graph.node:  # the exporter's notes on where a node comes from name files
                del node.metadata_props[:]
                node.doc_string = ""
            for value in (*whole.graph.value_info, *whole.graph.initializer, *whole.graph.input, *whole.graph.output):
                del value.metadata_props[:]
            del whole.graph.metadata_props[:], whole.metadata_props[:], whole.graph.value_info[:]
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
            packed = {"model.onnx": whole.SerializeToString()}
            packed.update({path.name: path.read_bytes() for path in (place / "test_data_set_0").iterdir()})
            for file, content in packed.items():
                (folder / name / f"{file}.gz").write_bytes(gzip.compress(content, mtime=0))
            print(name, {file: len(content) for file, content in packed.items()}, flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--tiny":
        export_tiny(Path(sys.argv[2]))
    else:
        for chosen in sys.argv[2:] or PLAIN + EAGER + FORMS:
            export(chosen, Path(sys.argv[1]))
