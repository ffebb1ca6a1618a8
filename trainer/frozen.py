# SPDX-License-Identifier: MIT
"""A frozen model that gates are trained over: attention as its gates see it, how much a key will still be read, and the
divergence of predictions, each without more than a block of its largest matrix in memory at a time.
"""

import math

import torch
from torch.nn import functional

import gates

QUERY_BLOCK = 128       # queries that attend together; the keys after the block are never touched
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


def still_to_come(peak):
    """The largest value that a key will get from this query or any later one: [..., query, key]."""
    by_key = peak.transpose(-2, -1).contiguous()
    return by_key.flip(-1).cummax(-1).values.flip(-1).transpose(-2, -1)


class HardAttention(torch.autograd.Function):
    """Attention to the keys that are still there, with a gradient for what decides it.

    q, k, v as in `attend`; margin [B, heads, query, key]: the running minimum of the gate's logits minus tau; a key is
    there iff it is > 0 (and not after the query). Backwards, a key that is there (weight p) pushes by its weight,
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
            slope = (soft * (1.0 - soft)).mul_(ctx.sharpness)
            slope.masked_fill_(future(stop, q.device)[start:], 0.0)
            grad_margin[:, :, start:stop, :stop] = slope.mul_(share.flatten(1, 2).unflatten(1, (heads, -1)).sum(2))
        return grad_q, grad_k, grad_v, grad_margin, None

    @staticmethod
    def _logits(q, k, start, stop):
        rows = q[:, :, :, start:stop]
        return (rows.flatten(2, 3) @ k[:, :, :stop].transpose(2, 3)).view(*rows.shape[:-1], stop)

    @staticmethod
    def _gone(margin, start, stop):
        """bool [B, heads or 1 for all, 1, queries, keys]"""
        gone = margin[:, :, start:stop, :stop] <= 0
        return (gone | future(stop, margin.device)[start:])[:, :, None]

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
    soft = torch.sigmoid(sharpness * margin)
    slope = (soft * (1.0 - soft)).mul_(sharpness / count).masked_fill_(future(length, margin.device), 0.0)
    return (margin > 0).tril().sum().item() / count, slope


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
        twins.append(gates.running_minimum(block.attention.gate(h.detach()), decoder.config.gate.recent) - tau)
        margins.append(twins[-1].detach().requires_grad_())
        x = x + block.attention.join(HardAttention.apply(*block.attention.project(h, rope), margins[-1], sharpness))
        x = x + block.mlp(block.norm2(x))
    return decoder.norm(x), margins, twins
