# SPDX-License-Identifier: MIT
"""The learned drop gate (arXiv 2305.15805): logits, the soft mask it is trained with, the step mask it is run with.

    s[n,j] = (Wq x_n) . (Wk x_j) / sqrt(r) + b     keep j at n iff s[n,j] - tau > 0; only j >= sinks, n >= j + recent are judged
    t_j    = min { n >= j + recent : s[n,j] - tau <= 0 };  query n sees key j iff j <= n < t_j

Shapes: [..., query, key]; in a model they are [batch, heads, query, key], where a layer has one gate for all its heads
(`scope` layer) or one for each of its kv-heads (`scope` kv_head).
"""

import dataclasses
import math

import torch

import entmax

SCOPES = ("layer", "kv_head")
TINY = 1e-9    # a factor of the soft mask is at least this, so that its logarithm is finite


@dataclasses.dataclass
class GateConfig:
    """What `drop_gate` in config.json says."""

    dim: int                  # r, rows of Wq and Wk
    threshold: float = 0.0    # tau
    recent: int = 1           # the query at distance `recent` is the first that may drop a key
    scope: str = "layer"      # one of SCOPES: whose gate it is
    sinks: int = 0            # the first so many tokens are never dropped

    def to_json(self):
        fields = {"type": "interaction", "dim": self.dim, "threshold": self.threshold, "recent": self.recent}
        if self.scope != "layer":
            fields["scope"] = self.scope
        if self.sinks:
            fields["sinks"] = self.sinks
        return fields

    @property
    def spared(self):
        """(recent, sinks): what no query may drop."""
        return self.recent, self.sinks

    def spare(self, recent, sinks):
        """Others than the gates were made for, where not None."""
        self.recent = self.recent if recent is None else recent
        self.sinks = self.sinks if sinks is None else sinks

    def heads(self, n_kv_heads):
        """Gates of a layer."""
        return n_kv_heads if self.scope == "kv_head" else 1

    @staticmethod
    def from_json(fields, where):
        if fields.get("type", "interaction") != "interaction":
            raise ValueError(f"{where}: drop_gate.type: expected \"interaction\", found {fields['type']!r}")
        if fields.get("propagate_in_depth"):
            raise ValueError(f"{where}: drop_gate.propagate_in_depth is not supported")
        scope = fields.get("scope", "layer")
        if scope not in SCOPES:
            raise ValueError(f"{where}: drop_gate.scope: expected {' or '.join(SCOPES)}, found {scope!r}")
        return GateConfig(int(fields["dim"]), float(fields.get("threshold", 0.0)), int(fields.get("recent", 1)), scope,
                          int(fields.get("sinks", 0)))


def wide(x):
    """x in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class DropGate(torch.nn.Module):
    """Gate logits of one layer, one gate for all its heads or one for each kv-head."""

    def __init__(self, d_model, dim, bias, heads=1):
        super().__init__()
        self.dim, self.heads = dim, heads
        self.wq = torch.nn.Linear(d_model, heads * dim, bias=False)
        self.wk = torch.nn.Linear(d_model, heads * dim, bias=False)
        self.b = torch.nn.Parameter(torch.full((heads,), float(bias)))
        for weight in (self.wq.weight, self.wk.weight):
            torch.nn.init.normal_(weight, 0.0, 0.3 / math.sqrt(d_model))

    def project(self, x):
        """x [batch, T, d] (the normalised block input) -> q, k, each [batch, heads, T, dim], with s = q . k + b.

        In float32 whatever comes in, or in float64 where all is.
        """
        with torch.autocast(x.device.type, enabled=False):
            x, wq, wk = (wide(part) for part in (x, self.wq.weight, self.wk.weight))
            q = torch.nn.functional.linear(x, wq) / math.sqrt(self.dim)
            k = torch.nn.functional.linear(x, wk)
            return tuple(part.unflatten(2, (-1, self.dim)).transpose(1, 2) for part in (q, k))

    def forward(self, x):
        """x as above -> s [batch, heads, query, key].

        In memory the queries of a key are neighbours, as `running_minimum` likes them.
        """
        q, k = self.project(x)
        with torch.autocast(x.device.type, enabled=False):
            return (k @ q.transpose(2, 3) + wide(self.b)[:, None, None]).transpose(2, 3)


def judged(length, recent, sinks=0, device=None):
    """Pairs that the gate decides: key >= sinks, query - key >= max(recent, 1); bool [query, key]."""
    pairs = torch.ones(length, length, dtype=torch.bool, device=device).tril(-max(recent, 1))
    pairs[:, :sinks] = False
    return pairs


def soft_mask(s, alpha, recent, sinks=0):
    """Log of the cumulative product of keep probabilities over the later queries: [..., query, key], <= 0.

    What is not `judged` is 0. It is added to the attention logits.
    """
    p = entmax.alpha_sigmoid(s, alpha).clamp_min(TINY)
    undecided = ~judged(s.shape[-1], recent, sinks, s.device)
    return p.masked_fill(undecided, 1.0).log().cumsum(-2)


def running_minimum(s, recent, sinks=0):
    """The least s[i,j] of the queries i <= n that have judged key j, inf where none has: [..., query, key].

    Key j is gone at n iff this is <= tau: the step rule itself, before its step.
    """
    undecided = ~judged(s.shape[-1], recent, sinks, s.device).transpose(0, 1)
    return s.transpose(-2, -1).masked_fill(undecided, math.inf).cummin(-1).values.transpose(-2, -1)


def dropped(s, threshold, recent, sinks=0):
    """Whether key j is gone at query n: bool [..., query, key]."""
    drops = (s - threshold <= 0) & judged(s.shape[-1], recent, sinks, s.device)
    return drops.to(torch.uint8).cummax(-2).values.bool()


def drop_at(gone):
    """t_j from `dropped`: position of the query that dropped key j, -1 where none did: int64 [..., key]."""
    length = gone.shape[-2]
    first = length - gone.sum(-2)
    return torch.where(first == length, torch.full_like(first, -1), first)


def visible(gone):
    """Keys that each query still sees, itself counted, from `dropped`: int64 [..., query]."""
    return torch.arange(1, gone.shape[-2] + 1, device=gone.device) - gone.sum(-1)


def kept_fraction(gone):
    """Mean over queries of visible keys / causal keys (the query itself counted): float [...]."""
    return (visible(gone) / torch.arange(1, gone.shape[-2] + 1, device=gone.device)).mean(-1)


def soft_kept_fraction(mask):
    """`kept_fraction` of a soft mask, a key counted by the cumulative product: float [...]."""
    length = mask.shape[-1]
    return (mask.exp().tril().sum(-1) / torch.arange(1, length + 1, device=mask.device)).mean(-1)
