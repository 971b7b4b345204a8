"""Goldens of a language model: a tiny GPT-2 with random weights and a tokenizer, made and computed by Hugging Face's transformers.

    python3 test/goldens/gpt2/make.py          (torch 2.13, transformers 5.17, tokenizers 0.23, safetensors)

config.json, model.safetensors, vocab.json and merges.txt are what transformers saves of a GPT2LMHeadModel with cross-attention and of a
byte-level tokenizer that was trained on a few captions. texts.json has texts with their tokens. golden.safetensors has

    ids, targets         [3, 6]: a batch of token ids and what is to be said after each; weights [3, 6] of the targets
    hidden               [3, 5, 16]: what cross-attention looks at, or the prefix
    plain.logits         without the picture
    cross.logits         with cross-attention to `hidden`;  cross.attention: the last layer's, averaged over heads [3, 6, 5]
    prefix.logits        with `hidden` before the words, of the words' places;  prefix.attention: of the words to all places [3, 6, 11]
    cross.greedy         [3, 8]: the likeliest tokens from the begin-of-text token on, by generate() with its cache; prefix.greedy likewise
    cross.grad.NAME, prefix.grad.NAME    gradients of the weighted cross-entropy, for every weight and for `hidden`
"""
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2TokenizerFast
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

HERE = pathlib.Path(__file__).parent
END_OF_TEXT = "<|endoftext|>"
CAPTIONS = [
    "A dog runs across the grass.", "Two dogs run through the snow with a red ball.", "A man in a blue shirt is climbing a rock wall.",
    "A little girl is playing with the dog.", "Children play in the water at the beach.", "The man's bike is on the street, isn't it?",
    "A woman holds an umbrella; it's raining!", "A brown dog is running with a ball in its mouth.", "Two men are standing on the beach.",
]
TEXTS = CAPTIONS[:3] + [
    "A zebra, 12 ostriches and 3.5 naïve cafés…", "  two  spaces ", "don't WE'LL they've", "日本語 🙂 ok", "tab\tand\nline", "", " ", "x" * 40, "a\u00a0b \u200b c",
]

tokenizer = ByteLevelBPETokenizer()
tokenizer.train_from_iterator(CAPTIONS, vocab_size=300, min_frequency=2, special_tokens=[END_OF_TEXT], show_progress=False)
tokenizer.save_model(str(HERE))
vocabulary = json.loads((HERE / "vocab.json").read_text())
fast = GPT2TokenizerFast(vocab=str(HERE / "vocab.json"), merges=str(HERE / "merges.txt"))
end = vocabulary[END_OF_TEXT]

torch.manual_seed(11)
config = GPT2Config(
    vocab_size=len(vocabulary), n_embd=16, n_layer=2, n_head=2, n_positions=24, add_cross_attention=True, bos_token_id=end, eos_token_id=end,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager",
)
model = GPT2LMHeadModel(config).eval()
with torch.no_grad():
    for name, weight in model.named_parameters():
        weight.copy_(torch.randn_like(weight) * 0.25 + (1.0 if "ln_" in name and name.endswith("weight") else 0.0))
model.save_pretrained(HERE)
saved = json.loads((HERE / "config.json").read_text())
(HERE / "config.json").write_text(json.dumps(saved, indent=1) + "\n")
(HERE / "generation_config.json").unlink(missing_ok=True)
(HERE / "texts.json").write_text(json.dumps([{"text": text, "ids": fast(text)["input_ids"]} for text in TEXTS], indent=1, ensure_ascii=True) + "\n")

ids = torch.randint(0, len(vocabulary), (3, 6))
ids[:, 0] = end
targets = torch.cat([ids[:, 1:], torch.full((3, 1), end)], 1)
weights = torch.rand(3, 6)
weights[1, 4:] = 0
hidden = torch.randn(3, 5, 16)
wte = model.transformer.wte
out = {"ids": ids.int(), "targets": targets.int(), "weights": weights, "hidden": hidden}


def loss_of(logits):
    return (F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none") * weights.flatten()).sum()


def greedy(first, step):
    """The likeliest tokens, with the cache of transformers."""
    tokens, past, given = [], None, first
    for _ in range(8):
        made = step(given, past)
        past = made.past_key_values
        given = made.logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(given)
    return torch.cat(tokens, 1)


def gradients(name, run):
    model.zero_grad()
    picture = hidden.clone().requires_grad_()
    made, logits = run(picture)
    loss_of(logits).backward()
    out[f"{name}.logits"] = logits
    for weight, value in model.named_parameters():
        if value.grad is not None and not (name == "prefix" and "cross" in weight):
            out[f"{name}.grad.{weight}"] = value.grad
    out[f"{name}.grad.hidden"] = picture.grad
    return made


with torch.no_grad():
    out["plain.logits"] = model(ids).logits


def crossed(picture):
    made = model(ids, encoder_hidden_states=picture, output_attentions=True)
    return made, made.logits


def prefixed(picture):
    made = model(inputs_embeds=torch.cat([picture, wte(ids)], 1), output_attentions=True)
    return made, made.logits[:, picture.shape[1]:]


out["cross.attention"] = gradients("cross", crossed).cross_attentions[-1].mean(1)
out["prefix.attention"] = gradients("prefix", prefixed).attentions[-1].mean(1)[:, hidden.shape[1]:]
with torch.no_grad():
    begin = torch.full((3, 1), end)
    out["cross.greedy"] = greedy(begin, lambda given, past: model(given, encoder_hidden_states=hidden, past_key_values=past, use_cache=True)).int()
    start = model(inputs_embeds=hidden, use_cache=True)
    out["prefix.greedy"] = greedy(begin, lambda given, past: model(given, past_key_values=past or start.past_key_values, use_cache=True)).int()
save_file({name: value.detach().contiguous() for name, value in out.items()}, HERE / "golden.safetensors")
for path in HERE.glob("*.safetensors"):
    path.chmod(0o644)
