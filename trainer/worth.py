# SPDX-License-Identifier: MIT
"""Gates on a token's own state, which pith's `worth_gate` reads: linear ones fitted to what a model attends to while it
writes a context again, as KVzap's are (arXiv 2601.07891), and Fast KVzip's out of their authors' files (arXiv 2601.17668).
"""

import math
import random

import torch

import safetensors_io

REPEAT = "\n\nRepeat the previous context exactly."
LEAST = 1e-6    # worth below this is not told apart


@torch.no_grad()
def replayed(decoder, context, request):
    """What a replay makes of each token: context, request int64 [T], [R] -> for each layer (its input x [T, d], the
    logarithm of its worth [T, kv]).

    Worth (KVzip+): the largest a_ij |W_o v_j| / |x_i| over the queries i of request and replay and the heads of a group.
    """
    length, tokens = len(context), torch.cat([context, request, context])[None]
    x, rope = decoder.begin(tokens)
    out = []
    for block in decoder.blocks:
        h = block.norm1(x)
        attention = block.attention
        q, k, v = attention.project(h, rope)
        weights = (q[0] @ k[0][:, None].transpose(-2, -1)).masked_fill(
            torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1), -math.inf).softmax(-1)
        mixed = weights @ v[0][:, None]
        slices = attention.wo.weight.float().view(attention.wo.weight.shape[0], *q.shape[1:3], -1)    # [d, kv, group, head_dim]
        gram = torch.einsum("dkgi,dkgj->kgij", slices, slices)
        norms = torch.einsum("kti,kgij,ktj->kgt", v[0], gram, v[0]).clamp_(min=0).sqrt_()
        given = weights[:, :, length:, :length] / h[0, length:].norm(dim=-1)[:, None]
        worth = (given.amax(2) * norms[:, :, :length]).amax(1)
        out.append((h[0, :length], worth.clamp(min=LEAST).log().t()))
        x = x + attention.join(mixed[None])
        x = x + block.mlp(block.norm2(x))
    return out


class Ridge:
    """The linear map with a bias that has the least squared error, and a price on its size."""

    def __init__(self, inputs, outputs):
        self.xx = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self.xy = torch.zeros(inputs + 1, outputs, dtype=torch.float64)

    def add(self, x, y):
        x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
        self.xx += x.t() @ x
        self.xy += x.t() @ y.double()

    def solve(self, price):
        """-> (weight [outputs, inputs], bias [outputs]); price: relative to the mean square of an input."""
        penalty = torch.full((len(self.xx),), price * self.xx.diagonal()[:-1].mean().item(), dtype=torch.float64)
        penalty[-1] = 0.0
        found = torch.linalg.solve(self.xx + penalty.diag(), self.xy)
        return found[:-1].t().float().contiguous(), found[-1].float()


def fit(decoder, windows, request, price=1e-3, tell=None):
    """windows: int64 [T] each -> name -> tensor, as `worth_gate` reads them; tell(window, error per layer of the fit so far)."""
    config, ridges = decoder.config, None
    for number, context in enumerate(windows):
        found = replayed(decoder, context, request)
        ridges = ridges or [Ridge(config.d_model, config.n_kv_heads) for _ in found]
        if tell and number:
            tell(number, [explained(ridge.solve(price), *pair) for ridge, pair in zip(ridges, found)])
        for ridge, pair in zip(ridges, found):
            ridge.add(*pair)
    if ridges is None:
        raise ValueError("windows: expected at least one, found none")
    solved = [ridge.solve(price) for ridge in ridges]
    return {f"layers.{layer}.{name}": tensor for layer, pair in enumerate(solved)
            for name, tensor in zip(("weight", "bias"), pair)}


def explained(gate, x, y):
    """The part of the variance of y that a gate explains, over its kv-heads."""
    weight, bias = gate
    return 1.0 - ((x @ weight.t() + bias - y).square().mean() / y.var(0, unbiased=False).mean()).item()


def draw(tokens, length, count, seed):
    """int64 windows of a packed token file, at random places."""
    if len(tokens) < length:
        raise ValueError(f"expected at least {length} packed tokens, found {len(tokens)}")
    places = random.Random(seed)
    for _ in range(count):
        begin = places.randint(0, len(tokens) - length)
        yield torch.from_numpy(tokens[begin:begin + length].astype("int64"))


def from_fast_kvzip(path):
    """The authors' .pt, a list of layers under "module" -> name -> tensor, as `worth_gate` reads them."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    layers = stored.get("module") if isinstance(stored, dict) else None
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(f'{path}: expected a list of layers under "module", found {type(layers).__name__}')
    return {f"layers.{number}.{name}": tensor for number, layer in enumerate(layers) for name, tensor in layer.items()}


def save(tensors, path):
    safetensors_io.write(path, tensors)
    return path
