# SPDX-License-Identifier: MIT
"""A frozen model that gates are trained over: attention as its gates see it, how much a key will still be read, and the
divergence of predictions, each without more than a block of its largest matrix in memory at a time.
"""

import itertools
import math
import typing

import torch
from torch.nn import functional

QUERY_BLOCK = 128       # queries that attend together; the keys after the block are never touched
KEY_BLOCK = 64          # keys of a gate that are judged together; the queries before the block are never touched
POSITION_BLOCK = 128    # positions whose predictions are compared together


def blocks(length, size):
    """(start, stop) of consecutive blocks."""
    return ((start, min(start + size, length)) for start in range(0, length, size))


def future(length, device=None):
    """Keys after their query: bool [query, key]."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def attend(q, k, v):
    """Dense causal attention: q [B, kv, group, T, head_dim] (scaled), k, v [B, kv, T, head_dim] -> as q."""
    if hasattr(functional, "scaled_dot_product_attention"):
        keys, values = (part[:, :, None].expand_as(q).flatten(1, 2) for part in (k, v))
        queries = q.flatten(1, 2) * math.sqrt(q.shape[-1])
        return functional.scaled_dot_product_attention(queries, keys, values, is_causal=True).view_as(q)
    return read(q, k, v, 1)[0]


def read(q, k, v, heads):
    """Dense causal attention and what it gave each key.

    Returns (mixed, as q; peak [B, heads, query, key]: the largest weight that a query gives a key in any of the heads that
    share a gate, all of them with heads = 1, those of a kv-head with heads = kv).
    """
    batch, kv, group, length, size = q.shape
    ahead = future(length, q.device)
    mixed, peak = torch.empty_like(q), q.new_zeros(batch, heads, length, length)
    for start, stop in blocks(length, QUERY_BLOCK):
        logits = q[:, :, :, start:stop].reshape(batch, kv, -1, size) @ k[:, :, :stop].transpose(2, 3)
        logits = logits.view(batch, kv, group, stop - start, stop).masked_fill_(ahead[start:stop, :stop], -math.inf)
        weights = logits.softmax(-1)
        mixed[:, :, :, start:stop] = (weights.view(batch, kv, -1, stop) @ v[:, :, :stop]).view(batch, kv, group, -1, size)
        most = peak[:, :, start:stop, :stop]
        for head, weight in enumerate(weights.flatten(1, 2).unbind(1)):
            into = most[:, head * heads // (kv * group)]
            torch.maximum(into, weight, out=into)
    return mixed, peak


def still_to_come(by_key):
    """The largest value that a key will get from this query or any later one: [..., key, query], as `by_key`."""
    return by_key.flip(-1).cummax(-1).values.flip(-1)


class Judged(typing.NamedTuple):
    """A few keys of one gate and all queries from them on, key by key: small enough for the processor's cache."""

    row: int
    head: int
    start: int               # of the keys, and of the queries
    stop: int                # of the keys
    ages: torch.Tensor       # int64 [key, some queries]: query - key, of the first queries
    low: torch.Tensor        # [key, query]: `gates.running_minimum`
    judge: torch.Tensor      # int64 [key, query]: who said it, counted from `start`

    def near(self, by_key):
        """Of a tensor as `low`, what `ages` tells of."""
        return by_key[:, :self.ages.shape[1]]

    def teach(self, slope, q, k, grads):
        """Adds to the gradients of (q, k, b) what `slope`, the gradient of `low`, makes of them."""
        grad_q, grad_k, grad_b = grads
        at, queries, keys = (self.row, self.head), slice(self.start, None), slice(self.start, self.stop)
        pull = torch.zeros_like(self.low).scatter_add_(1, self.judge, slope)
        grad_q[at][queries].addmm_(pull.t(), k[at][keys])
        grad_k[at][keys].addmm_(pull, q[at][queries])
        grad_b[self.head] += pull.sum()


def judge(q, k, b, recent, sinks=0):
    """`Judged` parts of gates with queries q (scaled), keys k [B, heads, T, dim] and scalars b [heads]; they cover all pairs."""
    batch, heads, length, _ = q.shape
    distance = max(recent, 1)                                            # from which on a pair is judged
    for row, head in itertools.product(range(batch), range(heads)):
        for start, stop in blocks(length, KEY_BLOCK):
            near = torch.arange(min(length - start, stop - start + distance), device=q.device)
            ages = near - torch.arange(stop - start, device=q.device)[:, None]
            s = torch.addmm(b[head], k[row, head, start:stop], q[row, head, start:].t())
            s[:, :len(near)].masked_fill_(ages < distance, math.inf)
            s[:max(0, sinks - start)] = math.inf
            yield Judged(row, head, start, stop, ages, *s.cummin(1))


class Margins(torch.autograd.Function):
    """The running minimum of gates, as `judge` has them, minus tau: [B, heads, query, key], -inf where a key is ahead."""

    @staticmethod
    def forward(ctx, q, k, b, tau, recent, sinks):
        ctx.save_for_backward(q, k, b)
        ctx.spared = recent, sinks
        margin = q.new_full((*q.shape[:3], q.shape[2]), -math.inf)
        for part in judge(q, k, b, *ctx.spared):
            low = part.low.sub_(tau)
            part.near(low).masked_fill_(part.ages < 0, -math.inf)
            margin[part.row, part.head, part.start:, part.start:part.stop] = low.t()
        return margin

    @staticmethod
    def backward(ctx, grad):
        q, k, b = ctx.saved_tensors
        grads = [torch.zeros_like(part) for part in (q, k, b)]
        for part in judge(q, k, b, *ctx.spared):
            part.teach(grad[part.row, part.head, part.start:, part.start:part.stop].t().contiguous(), q, k, grads)
        return (*grads, None, None, None)


class HardAttention(torch.autograd.Function):
    """Attention to the keys that are still there, with a gradient for what decides it.

    q, k, v as in `attend`; margin [B, heads, query, key]: as of `Margins`; a key is there iff it is > 0. Backwards, a key that is there (weight p) pushes by its weight,
    p (v_j - o), and a key that is gone by what its return would change, n / (1 + n) (v_j - o) with n its weight relative to
    all that is there; both times the slope of sigmoid(sharpness * margin). Nothing [heads, query, key] is stored but margin.
    """

    @staticmethod
    def forward(ctx, q, k, v, margin, sharpness):
        mixed, norm = torch.empty_like(q), q.new_empty(q.shape[:-1])
        for start, stop in blocks(q.shape[3], QUERY_BLOCK):
            logits = HardAttention._logits(q, k, start, stop)
            gone = HardAttention._gone(margin, start, stop)
            logits.masked_fill_(gone, -math.inf)
            norm[:, :, :, start:stop] = logits.logsumexp(-1)
            weights = logits.sub_(norm[:, :, :, start:stop, None]).exp_()
            mixed[:, :, :, start:stop] = HardAttention._mix(weights, v[:, :, :stop])
        ctx.save_for_backward(q, k, v, margin, mixed, norm)
        ctx.sharpness = sharpness
        return mixed

    @staticmethod
    def backward(ctx, grad):
        q, k, v, margin, mixed, norm = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        grad_margin = torch.zeros_like(margin)
        batch, kv, group, length, size = q.shape
        heads = margin.shape[1]
        for start, stop in blocks(length, QUERY_BLOCK):
            gone = HardAttention._gone(margin, start, stop)
            share = HardAttention._logits(q, k, start, stop).sub_(norm[:, :, :, start:stop, None]).clamp_(max=20).exp_()
            weights = share.masked_fill(gone, 0.0)
            ours = grad[:, :, :, start:stop].reshape(batch, kv, -1, size)
            grad_v[:, :, :stop] += weights.view(batch, kv, -1, stop).transpose(2, 3) @ ours
            pull = (ours @ v[:, :, :stop].transpose(2, 3)).view_as(share)
            pull -= (grad[:, :, :, start:stop] * mixed[:, :, :, start:stop]).sum(-1, keepdim=True)
            grad_logits = (weights * pull).view(batch, kv, -1, stop)
            grad_q[:, :, :, start:stop] = (grad_logits @ k[:, :, :stop]).view(batch, kv, group, -1, size)
            grad_k[:, :, :stop] += grad_logits.transpose(2, 3) @ q[:, :, :, start:stop].reshape(batch, kv, -1, size)
            share = torch.where(gone, share / (1.0 + share), share).mul_(pull)
            here = margin[:, :, start:stop, :stop]
            soft = torch.sigmoid(ctx.sharpness * here)
            slope = torch.addcmul(soft, soft, soft, value=-1.0).mul_(ctx.sharpness)
            grad_margin[:, :, start:stop, :stop] = slope.mul_(share.flatten(1, 2).unflatten(1, (heads, -1)).sum(2))
        return grad_q, grad_k, grad_v, grad_margin, None

    @staticmethod
    def _logits(q, k, start, stop):
        rows = q[:, :, :, start:stop]
        return (rows.flatten(2, 3) @ k[:, :, :stop].transpose(2, 3)).view(*rows.shape[:-1], stop)

    @staticmethod
    def _gone(margin, start, stop):
        """bool [B, heads or 1 for all, 1, queries, keys]"""
        return (margin[:, :, start:stop, :stop] <= 0)[:, :, None]

    @staticmethod
    def _mix(weights, v):
        return (weights.flatten(2, 3) @ v).view(*weights.shape[:-1], v.shape[-1])


class Divergence(torch.autograd.Function):
    """KL(taught || said), nats a position, of two last hidden states [B, T, d] under a head [V, d]; a gradient for `said`."""

    @staticmethod
    def forward(ctx, said, taught, head):
        flat, target = said.flatten(0, 1), taught.flatten(0, 1)
        grad, total = torch.empty_like(flat), 0.0
        for start, stop in blocks(len(flat), POSITION_BLOCK):
            log_p, log_q = (functional.linear(part[start:stop].to(head.dtype), head).float().log_softmax(-1)
                            for part in (target, flat))
            p = log_p.exp()
            total += float((p * (log_p - log_q)).sum())
            grad[start:stop] = functional.linear((log_q.exp_() - p).to(head.dtype), head.t()).float()
        ctx.save_for_backward(grad.view_as(said).div_(len(flat)))
        return said.new_tensor(total / len(flat))

    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0] * grad, None, None


@torch.no_grad()
def kept_pairs(margin, sharpness):
    """The part of all causal pairs that is kept, and its gradient, that of sigmoid(sharpness * margin): scalar, as margin."""
    length = margin.shape[-1]
    count = margin.shape[0] * margin.shape[1] * length * (length + 1) / 2
    slope, kept = torch.zeros_like(margin), 0
    for start, stop in blocks(length, QUERY_BLOCK):
        here = margin[:, :, start:stop, :stop]
        soft = torch.sigmoid(sharpness * here)
        slope[:, :, start:stop, :stop] = torch.addcmul(soft, soft, soft, value=-1.0).mul_(sharpness / count)
        kept += (here > 0).sum().item()
    return kept / count, slope


@torch.no_grad()
def dense_hidden(decoder, tokens):
    """tokens int64 [B, T] -> last hidden state [B, T, d] of the dense model."""
    x, rope = decoder.begin(tokens)
    for block in decoder.blocks:
        x = x + block.attention.join(attend(*block.attention.project(block.norm1(x), rope)))
        x = x + block.mlp(block.norm2(x))
    return decoder.norm(x)


def gated_hidden(decoder, tokens, tau, sharpness):
    """tokens int64 [B, T] -> (last hidden state [B, T, d] with gates as steps, margins of each layer, what they hang on).

    A margin [B, heads, query, key] is a leaf, so a gradient stops there; its twin in the second list goes on to the gate,
    and ends with the gate's input: what a gate reads is not taught to suit it.
    """
    x, rope = decoder.begin(tokens)
    margins, twins = [], []
    for block in decoder.blocks:
        h = block.norm1(x)
        gate = block.attention.gate
        twins.append(Margins.apply(*gate.project(h.detach()), gate.b, tau, *decoder.config.gate.spared))
        margins.append(twins[-1].detach().requires_grad_())
        x = x + block.attention.join(HardAttention.apply(*block.attention.project(h, rope), margins[-1], sharpness))
        x = x + block.mlp(block.norm2(x))
    return decoder.norm(x), margins, twins
