# SPDX-License-Identifier: MIT
"""One decoder for four shapes: GPT-2, Llama, Qwen2 and Qwen3, dense or with drop gates, full forward over a window."""

import dataclasses
import math
import typing

import torch
from torch import nn
from torch.nn import functional

import gates

FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")
QUERY_BLOCK = 256    # queries that attend together; the keys after the block are never touched


@dataclasses.dataclass
class Config:
    """Shape of a model; the names are those of the C++ library."""

    family: str                 # one of FAMILIES
    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    context: int                # positions
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tied: bool = True           # the head is the embedding
    end: int = 0                # id of <|endoftext|>
    gate: typing.Optional[gates.GateConfig] = None

    @property
    def is_gpt2(self):
        return self.family == "gpt2"


class Visibility:
    """What a forward pass does with its gates: nothing, the soft mask at `alpha`, or the step mask at `threshold`."""

    def __init__(self, alpha=None, threshold=None):
        self.alpha, self.threshold = alpha, threshold


DENSE = Visibility()


class Linear(nn.Linear):
    """Multiplies in the type of its weights, whatever comes in; a frozen half-precision model gives float32 on."""

    def forward(self, x):
        if self.weight.dtype in (torch.float32, torch.float64):
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).float()


class RmsNorm(nn.Module):
    def __init__(self, d_model, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def _norm(config):
    if config.is_gpt2:
        return nn.LayerNorm(config.d_model, eps=config.norm_eps)
    return RmsNorm(config.d_model, config.norm_eps)


def rope_table(length, head_dim, theta, device=None, dtype=torch.float32):
    """cos, sin [length, head_dim / 2] of the half-split convention."""
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return tuple(part.to(device, dtype) for part in (angle.cos(), angle.sin()))


def rotate(x, cos, sin):
    """x [..., T, head_dim] turned by its positions (Su et al. 2021, halves paired as in Hugging Face Llama)."""
    low, high = x.chunk(2, -1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


class Attention(nn.Module):
    def __init__(self, config, gate_bias):
        super().__init__()
        d, bias = config.d_model, config.family in ("gpt2", "qwen2")
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self.wq = Linear(d, config.n_heads * config.head_dim, bias=bias)
        self.wk = Linear(d, config.n_kv_heads * config.head_dim, bias=bias)
        self.wv = Linear(d, config.n_kv_heads * config.head_dim, bias=bias)
        self.wo = Linear(config.n_heads * config.head_dim, d, bias=config.is_gpt2)
        if config.family == "qwen3":
            self.q_norm, self.k_norm = (RmsNorm(config.head_dim, config.norm_eps) for _ in range(2))
        else:
            self.q_norm = self.k_norm = None
        self.gate = None
        if config.gate:
            self.gate = gates.DropGate(d, config.gate.dim, gate_bias, config.gate.heads(config.n_kv_heads))

    def project(self, x, rope):
        """x [B, T, d]; rope (cos, sin) or None -> q [B, kv, group, T, head_dim], scaled by 1 / sqrt(head_dim); k, v [B, kv,
        T, head_dim]."""
        batch, length, _ = x.shape
        group = self.n_heads // self.n_kv_heads
        q = self.wq(x).view(batch, length, self.n_heads, self.head_dim)
        k = self.wk(x).view(batch, length, self.n_kv_heads, self.head_dim)
        v = self.wv(x).view(batch, length, self.n_kv_heads, self.head_dim).transpose(1, 2)
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        q = (q * (1.0 / math.sqrt(self.head_dim))).reshape(batch, self.n_kv_heads, group, length, self.head_dim)
        return q, k, v

    def forward(self, x, rope, mask):
        """x [B, T, d]; rope (cos, sin) or None; mask [B or 1, 1 or kv, query, key] added to the logits -> [B, T, d]."""
        q, k, v = self.project(x, rope)
        batch, _, group, length, _ = q.shape
        blocks = []
        for start in range(0, length, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, length)
            queries = q[:, :, :, start:stop].reshape(batch, self.n_kv_heads, -1, self.head_dim)
            logits = queries @ k[:, :, :stop].transpose(2, 3)                     # [B, kv, group * block, stop]
            logits = logits.view(batch, self.n_kv_heads, group, stop - start, stop)
            logits = logits + mask[:, :, None, start:stop, :stop]
            weights = logits.softmax(-1).view(batch, self.n_kv_heads, -1, stop).to(v.dtype)
            blocks.append((weights @ v[:, :, :stop]).view(batch, self.n_kv_heads, group, stop - start, self.head_dim))
        return self.join(torch.cat(blocks, 3))

    def join(self, mixed):
        """What the heads read, [B, kv, group, T, head_dim], -> [B, T, d]."""
        return self.wo(mixed.flatten(1, 2).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, wide, bias = config.d_model, config.d_ff, config.is_gpt2
        self.gated = not config.is_gpt2
        if self.gated:
            self.w_gate = Linear(d, wide, bias=False)
        self.w_up = Linear(d, wide, bias=bias)
        self.w_down = Linear(wide, d, bias=bias)

    def forward(self, x):
        if self.gated:
            return self.w_down(functional.silu(self.w_gate(x)) * self.w_up(x))
        up = self.w_up(x)
        inner = math.sqrt(2.0 / math.pi) * (up + 0.044715 * up.pow(3))           # gelu_new
        return self.w_down(0.5 * up * (1.0 + torch.tanh(inner)))


class Block(nn.Module):
    def __init__(self, config, gate_bias):
        super().__init__()
        self.norm1, self.attention = _norm(config), Attention(config, gate_bias)
        self.norm2, self.mlp = _norm(config), Mlp(config)


class Decoder(nn.Module):
    """tokens [B, T] -> logits [B, T, vocab]; `forward` also returns what each layer's gate decided."""

    def __init__(self, config, gate_bias=0.0):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        if config.is_gpt2:
            self.positions = nn.Embedding(config.context, config.d_model)
        self.blocks = nn.ModuleList(Block(config, gate_bias) for _ in range(config.n_layers))
        self.norm = _norm(config)
        if not config.tied:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._initialise()

    def _initialise(self):
        """Normal, 0.5 / sqrt(d); what writes into the residual stream is scaled down by depth (Radford et al. 2019)."""
        spread = 0.5 / math.sqrt(self.config.d_model)
        for name, weight in self.named_parameters():
            if ".gate." in name:
                continue                                                         # has its own beginning
            if weight.dim() == 2:
                residual = name.endswith(("wo.weight", "w_down.weight"))
                nn.init.normal_(weight, 0.0, spread / math.sqrt(2 * self.config.n_layers) if residual else spread)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def gate_parameters(self):
        """(name, parameter) of the gates alone."""
        return [(name, weight) for name, weight in self.named_parameters() if ".gate." in name]

    def gates(self):
        """The gates of all layers as one module, which owns their parameters together with this one."""
        return nn.ModuleList(block.attention.gate for block in self.blocks)

    def freeze(self, dtype=torch.float32):
        """Only the gates learn from now on; the matrices of the blocks are held, and multiply, in `dtype`."""
        for name, weight in self.named_parameters():
            weight.requires_grad_(".gate." in name)
        for layer in self.modules():
            if isinstance(layer, Linear):
                layer.to(dtype)
        return self

    def forward(self, tokens, visibility=DENSE, mask=None):
        """tokens int64 [B, T] -> (logits [B, T, vocab], decisions: one tensor a layer, [] when dense).

        With an alpha a decision is the soft mask [B, heads, query, key]; with a threshold it is `gates.dropped`. `mask` [1 or
        B, 1 or kv, query, key] (0 or -inf) replaces causality for fixed patterns such as a window.
        """
        hidden, decisions = self.hidden(tokens, visibility, mask)
        return self.logits(hidden), decisions

    def logits(self, hidden):
        """hidden [..., d] after the last norm -> [..., vocab]."""
        return functional.linear(hidden, self.head_weight())

    def head_weight(self):
        """[vocab, d]"""
        return self.embed.weight if self.config.tied else self.head.weight

    def hidden(self, tokens, visibility=DENSE, mask=None):
        """As forward, before the head."""
        x, rope = self.begin(tokens)
        if mask is None:
            mask = causal_mask(tokens.shape[1], tokens.device)
        decisions = []
        for block in self.blocks:
            h = block.norm1(x)
            x = x + block.attention(h, rope, self._layer_mask(block, h, mask, visibility, decisions))
            x = x + block.mlp(block.norm2(x))
        return self.norm(x), decisions

    def begin(self, tokens):
        """tokens int64 [B, T] -> (what enters the first block: [B, T, d], rope (cos, sin) or None)."""
        config, length = self.config, tokens.shape[1]
        if length > config.context:
            raise ValueError(f"expected at most {config.context} tokens, found {length}")
        if config.is_gpt2:
            return self.embed(tokens) + self.positions.weight[:length], None
        x = self.embed(tokens)
        return x, rope_table(length, config.head_dim, config.rope_theta, x.device, x.dtype)

    def _layer_mask(self, block, h, mask, visibility, decisions):
        if block.attention.gate is None or (visibility.alpha is None and visibility.threshold is None):
            return mask
        s, spared = block.attention.gate(h), self.config.gate.spared
        if visibility.alpha is not None:
            decision = gates.soft_mask(s, visibility.alpha, *spared)
            decisions.append(decision)
            return mask + decision
        decision = gates.dropped(s, visibility.threshold, *spared)
        decisions.append(decision)
        return mask.expand_as(s).masked_fill(decision, -math.inf)


def causal_mask(length, device=None):
    """0 where key <= query, -inf elsewhere: [1, 1, query, key]."""
    return torch.full((1, 1, length, length), -math.inf, device=device).triu(1)
