"""Goldens of vision transformers: tiny models with random weights, as Hugging Face stores them, with what PyTorch makes of them.

    /usr/bin/python3 test/goldens/vit/make.py          (Debian's python3-torch 1.13 and python3-pil)

The modules are written by hand after transformers 4.40, which is not needed: models/vit/modeling_vit.py, deit/modeling_deit.py,
dinov2/modeling_dinov2.py and clip/modeling_clip.py. Names of weights, order of operations and defaults are theirs. Dropout is left out,
since it does nothing in evaluation. Pictures are prepared as image_transforms.py does with Pillow.

Each folder has config.json, preprocessor_config.json and model.safetensors, and golden.safetensors with
    pixels               one or two prepared pictures
    hidden_states.N      all tokens after N layers
    last_hidden_state    all tokens
    loss_weight          the loss is the sum of last_hidden_state times this, which is 0 before the patches
    grad.NAME            the loss's gradient, for every weight of the last layer
"""
import base64
import json
import math
import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

HERE = pathlib.Path(__file__).parent
WIDTH, LAYERS, HEADS, INNER, SIDE, PATCH = 14, 2, 2, 18, 16, 4


def save(path, tensors):
    header, blobs, at = {}, [], 0
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    for name, value in tensors.items():
        value = value.detach().contiguous()
        raw = value.view(torch.int16).numpy().tobytes() if value.dtype == torch.bfloat16 else value.numpy().tobytes()
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


ACTIVATIONS = {
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def heads(x):
    return x.view(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)


def attention(w, x, q, k, v, out):
    """ViTSelfAttention and ViTSelfOutput; CLIPAttention scales the queries first, which is the same."""
    query, key, value = (heads(F.linear(x, w[f"{n}.weight"], w.get(f"{n}.bias"))) for n in (q, k, v))
    weights = (query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
    mixed = (weights @ value).permute(0, 2, 1, 3).reshape(x.shape)
    return F.linear(mixed, w[f"{out}.weight"], w[f"{out}.bias"])


def norm(w, x, name, eps):
    return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], eps)


def vit(w, pixels, prefix, eps, act, leading, scaled=False, names=None):
    """ViTModel, DeiTModel and Dinov2Model."""
    n = names or {"n1": "layernorm_before", "n2": "layernorm_after", "i": "intermediate.dense", "o": "output.dense"}
    patches = F.conv2d(pixels, w[f"{prefix}embeddings.patch_embeddings.projection.weight"], w[f"{prefix}embeddings.patch_embeddings.projection.bias"], stride=PATCH)
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([*(w[prefix + token].expand(len(x), -1, -1) for token in leading), x], 1) + w[f"{prefix}embeddings.position_embeddings"]
    states = [x]
    for i in range(LAYERS):
        at = f"{prefix}encoder.layer.{i}."
        a = at + "attention.attention."
        part = attention(w, norm(w, x, at + n["n1"], eps), a + "query", a + "key", a + "value", at + "attention.output.dense")
        x = x + (part * w[at + "layer_scale1.lambda1"] if scaled else part)
        part = act(F.linear(norm(w, x, at + n["n2"], eps), w[f"{at}{n['i']}.weight"], w[f"{at}{n['i']}.bias"]))
        part = F.linear(part, w[f"{at}{n['o']}.weight"], w[f"{at}{n['o']}.bias"])
        x = x + (part * w[at + "layer_scale2.lambda1"] if scaled else part)
        states.append(x)
    return states, norm(w, x, f"{prefix}layernorm", eps)


def clip(w, pixels, prefix, eps, act):
    """CLIPVisionTransformer: last_hidden_state is not normalized; only the pooled class token is."""
    patches = F.conv2d(pixels, w[f"{prefix}embeddings.patch_embedding.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    token = w[f"{prefix}embeddings.class_embedding"].expand(len(patches), 1, -1)
    x = torch.cat([token, patches], 1) + w[f"{prefix}embeddings.position_embedding.weight"]
    x = norm(w, x, f"{prefix}pre_layrnorm", eps)
    states = [x]
    for i in range(LAYERS):
        at = f"{prefix}encoder.layers.{i}."
        a = at + "self_attn."
        x = x + attention(w, norm(w, x, at + "layer_norm1", eps), a + "q_proj", a + "k_proj", a + "v_proj", a + "out_proj")
        part = act(F.linear(norm(w, x, at + "layer_norm2", eps), w[at + "mlp.fc1.weight"], w[at + "mlp.fc1.bias"]))
        x = x + F.linear(part, w[at + "mlp.fc2.weight"], w[at + "mlp.fc2.bias"])
        states.append(x)
    return states, x


def weights(generator, shapes):
    def value(name, shape):
        drawn = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight") or "lambda" in name:
            return 1 + 0.2 * drawn
        return drawn / math.sqrt(math.prod(shape[1:])) if len(shape) == 2 or len(shape) == 4 else 0.3 * drawn

    return {name: value(name, shape) for name, shape in shapes.items()}


def linear(name, out, into, bias=True):
    return {f"{name}.weight": [out, into], **({f"{name}.bias": [out]} if bias else {})}


def both(name):
    return {f"{name}.weight": [WIDTH], f"{name}.bias": [WIDTH]}


def vit_shapes(prefix, leading, scaled=False, qkv_bias=True):
    tokens = (SIDE // PATCH) ** 2 + len(leading)
    shapes = {f"{prefix}{token}": [1, 1, WIDTH] for token in leading}
    shapes[f"{prefix}embeddings.position_embeddings"] = [1, tokens, WIDTH]
    shapes[f"{prefix}embeddings.patch_embeddings.projection.weight"] = [WIDTH, 3, PATCH, PATCH]
    shapes[f"{prefix}embeddings.patch_embeddings.projection.bias"] = [WIDTH]
    for i in range(LAYERS):
        at = f"{prefix}encoder.layer.{i}."
        for part in ("query", "key", "value"):
            shapes.update(linear(f"{at}attention.attention.{part}", WIDTH, WIDTH, qkv_bias))
        shapes.update(linear(f"{at}attention.output.dense", WIDTH, WIDTH))
        n = ("norm1", "norm2", "mlp.fc1", "mlp.fc2") if scaled else ("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense")
        shapes.update({**both(at + n[0]), **both(at + n[1]), **linear(at + n[2], INNER, WIDTH), **linear(at + n[3], WIDTH, INNER)})
        if scaled:
            shapes.update({f"{at}layer_scale1.lambda1": [WIDTH], f"{at}layer_scale2.lambda1": [WIDTH]})
    return {**shapes, **both(f"{prefix}layernorm")}


def clip_shapes(prefix):
    shapes = {
        f"{prefix}embeddings.class_embedding": [WIDTH],
        f"{prefix}embeddings.patch_embedding.weight": [WIDTH, 3, PATCH, PATCH],
        f"{prefix}embeddings.position_embedding.weight": [(SIDE // PATCH) ** 2 + 1, WIDTH],
        **both(f"{prefix}pre_layrnorm"),
    }
    for i in range(LAYERS):
        at = f"{prefix}encoder.layers.{i}."
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes.update(linear(f"{at}self_attn.{part}", WIDTH, WIDTH))
        shapes.update({**both(at + "layer_norm1"), **linear(at + "mlp.fc1", INNER, WIDTH), **linear(at + "mlp.fc2", WIDTH, INNER), **both(at + "layer_norm2")})
    return {**shapes, **both(f"{prefix}post_layernorm")}


SIZES = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_size": SIDE, "patch_size": PATCH}
CLIP_MEAN = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLASS, DISTILLATION = "embeddings.cls_token", "embeddings.distillation_token"


def family(seed, name, config, preprocessor, shapes, extra, run, last, dtype=torch.float32, pictures=2):
    generator = torch.Generator().manual_seed(seed)
    w = {key: value.to(dtype) for key, value in weights(generator, shapes).items()}
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    save(folder / "model.safetensors", {**w, **{key: value.to(dtype) if value.is_floating_point() else value for key, value in extra.items()}})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    # Computed in float64, so that the goldens carry no rounding of their own.
    w = {key: value.double().requires_grad_(key.startswith(last)) for key, value in w.items()}
    pixels = torch.randn([pictures, 3, SIDE, SIDE], generator=generator).double()
    states, result = run(w, pixels)
    loss_weight = torch.randn(result.shape, generator=generator).double()
    loss_weight[:, : result.shape[1] - (SIDE // PATCH) ** 2] = 0  # the tokens before the patches are no features
    (result * loss_weight).sum().backward()
    golden = {"pixels": pixels, **{f"hidden_states.{i}": x for i, x in enumerate(states) if i == 1}, "last_hidden_state": result, "loss_weight": loss_weight}
    if name == "dinov2":  # Dinov2Embeddings.interpolate_pos_encoding, as of transformers 4.46
        larger = torch.randn([1, 3, SIDE + 8, SIDE + 8], generator=generator).double()
        grid, to = SIDE // PATCH, SIDE // PATCH + 2
        position = w["embeddings.position_embeddings"]
        patches = position[:, 1:].reshape(1, grid, grid, WIDTH).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, size=(to, to), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).reshape(1, to * to, WIDTH)
        _, other = run({**w, "embeddings.position_embeddings": torch.cat([position[:, :1], patches], 1)}, larger)
        golden.update({"larger.pixels": larger, "larger.last_hidden_state": other})
    golden.update({f"grad.{key}": value.grad for key, value in w.items() if key.startswith(last)})
    save(folder / "golden.safetensors", {key: value.float() for key, value in golden.items()})


family(
    1, "vit", {"model_type": "vit", **SIZES, "intermediate_size": INNER, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": True},
    {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, **HALF},
    vit_shapes("vit.", [CLASS]), {"classifier.weight": torch.zeros(3, WIDTH), "classifier.bias": torch.zeros(3)},
    lambda w, x: vit(w, x, "vit.", 1e-12, F.gelu, [CLASS]), "vit.encoder.layer.1.",
)  # fmt: skip
family(
    2, "deit", {"model_type": "deit", **SIZES, "intermediate_size": INNER, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
    {"feature_extractor_type": "DeiTFeatureExtractor", "do_resize": True, "size": 20, "do_center_crop": True, "crop_size": SIDE, "resample": 3, "do_normalize": True, **IMAGENET},
    vit_shapes("deit.", [CLASS, DISTILLATION]), {"cls_classifier.weight": torch.zeros(3, WIDTH), "distillation_classifier.weight": torch.zeros(3, WIDTH)},
    lambda w, x: vit(w, x, "deit.", 1e-12, F.gelu, [CLASS, DISTILLATION]), "deit.encoder.layer.1.", torch.bfloat16, 1,
)  # fmt: skip
family(
    3, "dinov2", {"model_type": "dinov2", **SIZES, "mlp_ratio": 1.3, "hidden_act": "gelu_pytorch_tanh", "qkv_bias": False},
    {"image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 18}, "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True, "do_convert_rgb": True, **IMAGENET},
    vit_shapes("", [CLASS], scaled=True, qkv_bias=False), {"embeddings.mask_token": torch.zeros(1, WIDTH)},
    lambda w, x: vit(w, x, "", 1e-6, ACTIVATIONS["gelu_new"], [CLASS], True, {"n1": "norm1", "n2": "norm2", "i": "mlp.fc1", "o": "mlp.fc2"}), "encoder.layer.1.", torch.bfloat16, 1,
)  # fmt: skip
family(
    4, "clip", {"model_type": "clip", "text_config": {"hidden_size": 8}, "vision_config": {**SIZES, "intermediate_size": INNER}},
    {"feature_extractor_type": "CLIPFeatureExtractor", "do_resize": True, "size": SIDE, "do_center_crop": True, "crop_size": SIDE, "resample": 3, "do_normalize": True, **CLIP_MEAN},
    clip_shapes("vision_model."),
    {"logit_scale": torch.tensor(2.6592), "text_model.final_layer_norm.weight": torch.ones(8), "visual_projection.weight": torch.zeros(6, WIDTH), "vision_model.embeddings.position_ids": torch.arange(17)},
    lambda w, x: clip(w, x, "vision_model.", 1e-5, ACTIVATIONS["quick_gelu"]), "vision_model.encoder.layers.1.", torch.float16,
)  # fmt: skip


# Pictures: what Pillow makes of them, as the image processors call it (image_transforms.resize and center_crop).
def prepared(image, edge, to, resample, crop):
    width, height = image.size
    short, long = min(width, height), max(width, height)
    size = (to, to) if edge == "both" else tuple(to if side == short else int(to * long / short) for side in (width, height))
    image = image.resize(size, resample=resample)
    left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
    return image.crop((left, top, left + crop, top + crop))


def text(array):
    return base64.b64encode(array.tobytes()).decode()


random = np.random.default_rng(7)
pictures = []
NAMES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
for width, height, edge, to, resample, crop in [
    (37, 23, "both", 16, 2, 16), (29, 23, "shortest", 18, 3, 16), (13, 31, "shortest", 16, 3, 16), (11, 7, "shortest", 19, 3, 16),
    (16, 16, "both", 16, 3, 16), (41, 12, "shortest", 12, 2, 11), (31, 19, "both", 20, 1, 17),
]:  # fmt: skip
    smooth = np.add.outer(np.arange(height) * 5, np.arange(width) * 3)[..., None] + [0, 80, 160]
    pixels = ((smooth + random.integers(0, 90, [height, width, 3])) % 256).astype(np.uint8)
    result = np.asarray(prepared(Image.fromarray(pixels), edge, to, resample, crop))
    pictures.append({"width": width, "height": height, "edge": edge, "to": to, "filter": NAMES[resample], "crop": crop, "pixels": text(pixels), "result": text(result)})
(HERE / "pictures.json").write_text(json.dumps(pictures, indent=1) + "\n")
