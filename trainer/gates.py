# SPDX-License-Identifier: MIT
"""The learned drop gate (arXiv 2305.15805): logits, the soft mask it is trained with, the step mask it is run with.

    s[n,j] = (Wq x_n) . (Wk x_j) / sqrt(r) + b     keep j at n iff s[n,j] - tau > 0; only n >= j + recent is judged
    t_j    = min { n >= j + recent : s[n,j] - tau <= 0 };  query n sees key j iff j <= n < t_j
"""

import dataclasses
import math

import torch

import entmax

TINY = 1e-9    # a factor of the soft mask is at least this, so that its logarithm is finite


@dataclasses.dataclass
class GateConfig:
    """What `drop_gate` in config.json says."""

    dim: int                  # r, rows of Wq and Wk
    threshold: float = 0.0    # tau
    recent: int = 1           # the query at distance `recent` is the first that may drop a key

    def to_json(self):
        return {"type": "interaction", "dim": self.dim, "threshold": self.threshold, "recent": self.recent}

    @staticmethod
    def from_json(fields, where):
        if fields.get("type", "interaction") != "interaction":
            raise ValueError(f"{where}: drop_gate.type: expected \"interaction\", found {fields['type']!r}")
        if fields.get("propagate_in_depth"):
            raise ValueError(f"{where}: drop_gate.propagate_in_depth is not supported")
        return GateConfig(int(fields["dim"]), float(fields.get("threshold", 0.0)), int(fields.get("recent", 1)))


class DropGate(torch.nn.Module):
    """Gate logits of one layer, shared by its heads."""

    def __init__(self, d_model, dim, bias):
        super().__init__()
        self.wq = torch.nn.Linear(d_model, dim, bias=False)
        self.wk = torch.nn.Linear(d_model, dim, bias=False)
        self.b = torch.nn.Parameter(torch.full((1,), float(bias)))
        for weight in (self.wq.weight, self.wk.weight):
            torch.nn.init.normal_(weight, 0.0, 0.3 / math.sqrt(d_model))

    def forward(self, x):
        """x [batch, T, d] (the normalised block input) -> s [batch, query, key] in float32."""
        with torch.autocast(x.device.type, enabled=False):
            q = torch.nn.functional.linear(x.float(), self.wq.weight.float())
            k = torch.nn.functional.linear(x.float(), self.wk.weight.float())
            return (q / math.sqrt(q.shape[-1])) @ k.transpose(1, 2) + self.b.float()


def judged(length, recent, device=None):
    """Pairs that the gate decides: query - key >= max(recent, 1), bool [query, key]."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril(-max(recent, 1))


def soft_mask(s, alpha, recent):
    """Log of the cumulative product of keep probabilities over the later queries: [batch, query, key], <= 0.

    Diagonal, future and the last `recent` keys are 0. It is added to the attention logits.
    """
    p = entmax.alpha_sigmoid(s, alpha).clamp_min(TINY)
    undecided = ~judged(s.shape[-1], recent, s.device)
    return p.masked_fill(undecided, 1.0).log().cumsum(1)


def dropped(s, threshold, recent):
    """Whether key j is gone at query n: bool [batch, query, key]."""
    drops = (s - threshold <= 0) & judged(s.shape[-1], recent, s.device)
    return drops.to(torch.uint8).cummax(1).values.bool()


def drop_at(gone):
    """t_j from `dropped`: position of the query that dropped key j, -1 where none did: int64 [batch, key]."""
    length = gone.shape[1]
    first = length - gone.sum(1)
    return torch.where(first == length, torch.full_like(first, -1), first)


def visible(gone):
    """Keys that each query still sees, itself counted, from `dropped`: int64 [batch, query]."""
    return torch.arange(1, gone.shape[1] + 1, device=gone.device) - gone.sum(2)


def kept_fraction(gone):
    """Mean over queries of visible keys / causal keys (the query itself counted): float [batch]."""
    return (visible(gone) / torch.arange(1, gone.shape[1] + 1, device=gone.device)).mean(1)


def soft_kept_fraction(mask):
    """`kept_fraction` of a soft mask, a key counted by the cumulative product: float [batch]."""
    length = mask.shape[-1]
    return (mask.exp().tril().sum(2) / torch.arange(1, length + 1, device=mask.device)).mean(1)
