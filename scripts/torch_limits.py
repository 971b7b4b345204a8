"""What the same GPU gives PyTorch: the native limit beside the results of `glimpse bench` on a real GPU.

    python3 scripts/torch_limits.py        needs PyTorch with CUDA; torchvision for ResNet-50

Times the matrix product, ResNet-50, and a training step of the captioner's sizes (bench/catalog.ts, train-step), eager, in float32:
once exactly, once with TF32 matrix units, which round each operand to 10 bits. Median of runs, timed by events.
"""
import statistics

import torch
from torch import nn

assert torch.cuda.is_available(), "this needs a GPU with CUDA"
print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)


def median_ms(run, times=10):
    for _ in range(3):
        run()
    samples = []
    for _ in range(times):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        samples.append(start.elapsed_time(end))
    return statistics.median(samples)


class Captioner(nn.Module):
    """Bahdanau attention and two LSTM layers, as src/model/captioner: attention from h2, context to h1, h2 to words."""

    def __init__(self, features=2048, values=256, keys=512, hidden=512, embedding=256, vocabulary=5000):
        super().__init__()
        self.project, self.keys, self.query = nn.Linear(features, values), nn.Linear(values, keys), nn.Linear(hidden, keys)
        self.score, self.embed = nn.Linear(keys, 1, bias=False), nn.Embedding(vocabulary, embedding)
        self.first, self.second = nn.LSTMCell(values + embedding, hidden), nn.LSTMCell(hidden, hidden)
        self.out = nn.Linear(hidden, vocabulary)

    def forward(self, features, words):
        values = torch.relu(self.project(features))
        keys, embedded = self.keys(values), self.embed(words)
        h1 = c1 = h2 = c2 = features.new_zeros(features.shape[0], 512)
        states = []
        for t in range(words.shape[1]):
            alpha = torch.softmax(self.score(torch.tanh(keys + self.query(h2)[:, None])), 1)
            context = (alpha * values).sum(1)
            h1, c1 = self.first(torch.cat([context, embedded[:, t]], 1), (h1, c1))
            h2, c2 = self.second(h1, (h2, c2))
            states.append(h2)
        return self.out(torch.stack(states, 1))


def train_step(batch, steps=20):
    model = Captioner().cuda()
    optimizer = torch.optim.Adam(model.parameters(), 4e-4, fused=True)
    features, words = torch.randn(batch, 49, 2048, device="cuda"), torch.randint(5000, (batch, steps), device="cuda")

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features, words).flatten(0, 1), words.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()

    return median_ms(step)


for tf32 in (False, True):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    kind = "TF32" if tf32 else "float32"
    for n in (2048, 4096):
        a, b = (torch.randn(n, n, device="cuda") for _ in range(2))
        ms = median_ms(lambda: a @ b)
        print(f"{kind} matmul {n}³: {ms:.3f} ms, {2 * n**3 / ms / 1e9:.1f} TFLOP/s")
    try:
        from torchvision.models import resnet50

        with torch.inference_mode():
            model = resnet50().cuda().eval().to(memory_format=torch.channels_last)
            for batch in (1, 8, 64):
                pictures = torch.randn(batch, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
                ms = median_ms(lambda: model(pictures))
                print(f"{kind} ResNet-50, batch {batch}: {ms:.2f} ms, {1000 * batch / ms:.0f} pictures/s")
    except ImportError as error:
        print(error)
    for batch in (64, 256):
        ms = train_step(batch)
        print(f"{kind} training step, {batch} captions of 20 words: {ms:.2f} ms, {20000 * batch / ms:.0f} tokens/s")
