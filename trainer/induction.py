# SPDX-License-Identifier: MIT
"""A first guess for copying from context: the weights an untrained model starts its first two layers from.

Looking a fact up takes two layers (Olsson et al. 2022): one writes down which tokens came just before, the next looks
for a place where the same ones came before. A random start waits for both at once, for thousands of steps; here they
begin roughly in place, and training takes over from there.

    layer 0   head i looks i + 1 tokens back and writes a code V e of that token into a subspace O_i of its own
    layer 1   kv-head 0 matches the token itself with what came 1 back at the key; kv-head 1 the tokens 1 and 2 back
              with those 2 and 3 back; the first query head of each copies what it finds to the output
"""

import math

import torch

import model

MATCHES = (((0, 1),), ((1, 2), (2, 3)))    # per kv-head of layer 1: (tokens back at the query, tokens back at the key)
SHARPNESS = 48.0                           # attention logit of a look-back head at its place
FOUND = 30.0                               # attention logit of a full match, roughly
WRITE = 0.125                              # size of the codes in the residual stream, against embeddings of 0.5
COPY = 0.4                                 # the same for what is copied


def plant(decoder):
    """Overwrite the attention of layers 0 and 1 of a Llama-shaped `model.Decoder`."""
    config = decoder.config
    if config.n_heads < 3 or config.n_kv_heads < len(MATCHES) or config.n_layers < 2:
        raise ValueError(f"a planted start: expected at least 3 heads, {len(MATCHES)} kv-heads and 2 layers, found "
                         f"{config.n_heads}, {config.n_kv_heads} and {config.n_layers}")
    width = config.head_dim // 2                                                # dimensions of a code
    basis = torch.linalg.qr(torch.randn(config.d_model, config.d_model))[0]
    u, code = basis[:, 0], basis[:, 1:1 + width].t()                            # V [width, d]
    places = [basis[:, 1 + width * (i + 1):1 + width * (i + 2)] for i in range(config.n_heads)]    # O_i [d, width]
    with torch.no_grad():
        decoder.embed.weight += decoder.embed.weight.norm(dim=1).mean() * u     # every token shares u: a constant input
        _look_back(decoder.blocks[0].attention, config, u, code, places)
        _match(decoder.blocks[1].attention, config, [code, *(place.t() for place in places)])


def _look_back(attention, config, u, code, places):
    """q = R(-distance) c and k = c, both read from u, so that q R(key - query) k peaks at key = query - distance."""
    size, fast = config.head_dim, max(1, config.head_dim // 8)
    content = torch.zeros(size)
    content[:fast] = math.sqrt(SHARPNESS * math.sqrt(size) / fast / (config.d_model / 2.0))    # the quick rotations
    cos, sin = model.rope_table(config.n_heads + 1, size, config.rope_theta)
    attention.wk.weight.copy_(torch.outer(content.repeat(config.n_kv_heads), u))
    for kv_head in range(config.n_kv_heads):
        attention.wv.weight[kv_head * size:kv_head * size + len(code)] = code
    for head, place in enumerate(places):
        query = model.rotate(content, cos[head + 1], -sin[head + 1])
        attention.wq.weight[head * size:(head + 1) * size] = torch.outer(query, u)
        attention.wo.weight[:, head * size:head * size + len(code)] = WRITE * place


def _match(attention, config, readers):
    """readers[i] [width, d] finds the code of the token i back; only slow rotations match, as they do at any distance."""
    size, half = config.head_dim, config.head_dim // 2
    slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, size)])
    group = config.n_heads // config.n_kv_heads
    for kv_head, matches in enumerate(MATCHES):
        share = len(slow) // len(matches)
        scale = math.sqrt(FOUND / len(matches) * math.sqrt(size) / share)
        for part, (query_back, key_back) in enumerate(matches):
            rows = slow[part * share:(part + 1) * share]
            attention.wq.weight[kv_head * group * size + rows] = scale * readers[query_back][:share]
            attention.wk.weight[kv_head * size + rows] = scale * readers[key_back][:share]
        values = torch.linalg.qr(torch.randn(config.d_model, size))[0]                        # [d, head_dim]
        attention.wv.weight[kv_head * size:(kv_head + 1) * size] = values.t()
        attention.wo.weight[:, kv_head * group * size:(kv_head * group + 1) * size] = COPY * values
