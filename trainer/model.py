# SPDX-License-Identifier: MIT
"""One decoder for the three shapes: GPT-2, Llama and Qwen2, dense or with drop gates, full forward over a window."""

import dataclasses
import math
import typing

import torch
from torch import nn
from torch.nn import functional

import gates

FAMILIES = ("gpt2", "llama", "qwen2")
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


def rope_table(length, head_dim, theta, device=None):
    """cos, sin [length, head_dim / 2] of the half-split convention."""
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(x, cos, sin):
    """x [..., T, head_dim] turned by its positions (Su et al. 2021, halves paired as in Hugging Face Llama)."""
    low, high = x.chunk(2, -1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


class Attention(nn.Module):
    def __init__(self, config, gate_bias):
        super().__init__()
        d, bias = config.d_model, config.family != "llama"
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self.wq = nn.Linear(d, config.n_heads * config.head_dim, bias=bias)
        self.wk = nn.Linear(d, config.n_kv_heads * config.head_dim, bias=bias)
        self.wv = nn.Linear(d, config.n_kv_heads * config.head_dim, bias=bias)
        self.wo = nn.Linear(config.n_heads * config.head_dim, d, bias=config.is_gpt2)
        self.gate = gates.DropGate(d, config.gate.dim, gate_bias) if config.gate else None

    def forward(self, x, rope, mask):
        """x [B, T, d]; rope (cos, sin) or None; mask [B or 1, query, key] added to the logits -> [B, T, d]."""
        batch, length, _ = x.shape
        group = self.n_heads // self.n_kv_heads
        q = self.wq(x).view(batch, length, self.n_heads, self.head_dim).transpose(1, 2)
        k = self.wk(x).view(batch, length, self.n_kv_heads, self.head_dim).transpose(1, 2)
        v = self.wv(x).view(batch, length, self.n_kv_heads, self.head_dim).transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        q = (q * (1.0 / math.sqrt(self.head_dim))).reshape(batch, self.n_kv_heads, group, length, self.head_dim)
        blocks = []
        for start in range(0, length, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, length)
            queries = q[:, :, :, start:stop].reshape(batch, self.n_kv_heads, -1, self.head_dim)
            logits = queries @ k[:, :, :stop].transpose(2, 3)                     # [B, kv, group * block, stop]
            logits = logits.view(batch, self.n_kv_heads, group, stop - start, stop)
            logits = logits + mask[:, None, None, start:stop, :stop]
            weights = logits.softmax(-1).view(batch, self.n_kv_heads, -1, stop).to(v.dtype)
            blocks.append((weights @ v[:, :, :stop]).view(batch, self.n_heads, stop - start, self.head_dim))
        mixed = torch.cat(blocks, 2).transpose(1, 2).reshape(batch, length, -1)
        return self.wo(mixed)


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, wide, bias = config.d_model, config.d_ff, config.is_gpt2
        self.gated = not config.is_gpt2
        if self.gated:
            self.w_gate = nn.Linear(d, wide, bias=False)
        self.w_up = nn.Linear(d, wide, bias=bias)
        self.w_down = nn.Linear(wide, d, bias=bias)

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

    def forward(self, tokens, visibility=DENSE, mask=None):
        """tokens int64 [B, T] -> (logits [B, T, vocab], decisions: one tensor a layer, [] when dense).

        With an alpha a decision is the soft mask [B, query, key]; with a threshold it is `gates.dropped`. `mask` [1 or B,
        query, key] (0 or -inf) replaces causality for fixed patterns such as a window.
        """
        hidden, decisions = self.hidden(tokens, visibility, mask)
        return self.logits(hidden), decisions

    def logits(self, hidden):
        """hidden [..., d] after the last norm -> [..., vocab]."""
        return functional.linear(hidden, self.embed.weight if self.config.tied else self.head.weight)

    def hidden(self, tokens, visibility=DENSE, mask=None):
        """As forward, before the head."""
        config, length = self.config, tokens.shape[1]
        if length > config.context:
            raise ValueError(f"expected at most {config.context} tokens, found {length}")
        x, rope = self.embed(tokens), None
        if config.is_gpt2:
            x = x + self.positions.weight[:length]
        else:
            rope = rope_table(length, config.head_dim, config.rope_theta, tokens.device)
        if mask is None:
            mask = causal_mask(length, tokens.device)
        decisions = []
        for block in self.blocks:
            h = block.norm1(x)
            x = x + block.attention(h, rope, self._layer_mask(block, h, mask, visibility, decisions))
            x = x + block.mlp(block.norm2(x))
        return self.norm(x), decisions

    def _layer_mask(self, block, h, mask, visibility, decisions):
        if block.attention.gate is None or (visibility.alpha is None and visibility.threshold is None):
            return mask
        s, recent = block.attention.gate(h), self.config.gate.recent
        if visibility.alpha is not None:
            decision = gates.soft_mask(s, visibility.alpha, recent)
            decisions.append(decision)
            return mask + decision
        decision = gates.dropped(s, visibility.threshold, recent)
        decisions.append(decision)
        return mask.expand_as(s).masked_fill(decision, -math.inf)


def causal_mask(length, device=None):
    """0 where key <= query, -inf elsewhere: [1, query, key]."""
    return torch.full((1, length, length), -math.inf, device=device).triu(1)
