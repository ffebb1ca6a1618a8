# SPDX-License-Identifier: MIT
"""The alpha-sigmoid: two-way alpha-entmax of (s, 0) (Peters et al. 2019; arXiv 2305.15805 section 3.2).

p solves p^(a-1) - (1-p)^(a-1) = (a-1) s. It is the sigmoid as a -> 1, the ramp (1 + s) / 2 at a = 2, and nears a step
as a grows; beyond |s| = 1 / (a-1) it is exactly 0 or 1. Its derivative is dp/ds = 1 / (p^(a-2) + (1-p)^(a-2)).
"""

import functools

import torch

SIGMOID_BELOW = 1.0 + 1e-6    # at and below this alpha the limit itself is used
FAR = 40.0                    # where the sigmoid is 0 or 1 in float32
LEAK = 0.01                   # training takes dp/ds for at least this: a gate at 1 must still hear what it costs
STEEPEST = 16.0               # the largest alpha that training may use
TABLE = 1 << 14               # intervals of the table that training reads; its error in p is below 1e-6 (tested)


def solve(s, alpha):
    """Exact p of float64 s (any shape): Newton on p <= 1/2, kept inside the bracket, mirrored for s > 0."""
    if alpha <= SIGMOID_BELOW:
        return torch.sigmoid(s)
    power = alpha - 1.0
    target = (-s.abs() * power).clamp_min(-1.0)                    # left side at the solution p <= 1/2, in [-1, 0]
    low, high = torch.zeros_like(target), torch.full_like(target, 0.5)
    p = torch.full_like(target, 0.25)
    for _ in range(100):
        residual = p.pow(power) - (1.0 - p).pow(power) - target
        low, high = torch.where(residual < 0, p, low), torch.where(residual < 0, high, p)
        step = p - residual / (power * (p.pow(power - 1.0) + (1.0 - p).pow(power - 1.0)))
        inside = (step > low) & (step < high)
        moved = torch.where(inside, step, 0.5 * (low + high))
        if torch.equal(moved, p):
            break
        p = moved
    p = torch.where(target <= -1.0, torch.zeros_like(p), p)
    p = torch.where(s == 0, torch.full_like(p, 0.5), p)
    return torch.where(s > 0, 1.0 - p, p)


def slope(p, alpha):
    """dp/ds at p (any float type), 0 where p has reached 0 or 1."""
    q = 1.0 - p
    if alpha <= SIGMOID_BELOW:
        return p * q
    return ((p > 0) & (q > 0)) / (p.pow(alpha - 2.0) + q.pow(alpha - 2.0))


def reach(alpha):
    """Smallest |s| at which p is 0 or 1 (to float32)."""
    return FAR if alpha <= SIGMOID_BELOW else min(FAR, 1.0 / (alpha - 1.0))


@functools.lru_cache(maxsize=8)
def _table(alpha, device):
    """(p, dp/ds) at TABLE + 1 equally spaced s in [-reach, reach], solved in float64: two float32 [TABLE + 1]."""
    grid = torch.linspace(-1.0, 1.0, TABLE + 1, dtype=torch.float64) * reach(alpha)
    p = solve(grid, alpha)
    if 1.0 / max(alpha - 1.0, 1e-9) <= FAR:
        p[0], p[-1] = 0.0, 1.0
    return p.float().to(device), slope(p, alpha).float().to(device)


class _AlphaSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s, alpha):
        p, dp = _table(alpha, str(s.device))
        at = ((s.float() / reach(alpha)).clamp(-1.0, 1.0) + 1.0) * (TABLE / 2)
        index = at.long().clamp_max(TABLE - 1)
        part = at - index
        ctx.save_for_backward(torch.lerp(dp[index], dp[index + 1], part))
        return torch.lerp(p[index], p[index + 1], part)

    @staticmethod
    def backward(ctx, grad):
        (dp,) = ctx.saved_tensors
        return grad * dp.clamp_min(LEAK), None


def alpha_sigmoid(s, alpha):
    """p in float32 for s of any shape and one alpha in [1, STEEPEST]; reads a table solved in float64.

    Its gradient is the exact dp/ds, but never less than LEAK.
    """
    if not 1.0 <= alpha <= STEEPEST:
        raise ValueError(f"alpha: expected 1 to {STEEPEST:g}, found {alpha}")
    return _AlphaSigmoid.apply(s, float(alpha))
