# SPDX-License-Identifier: MIT
"""Gates learned layer by layer while text streams once through the frozen dense model; no gradient crosses a layer.

The mask is the step rule, softened: m[n,j] = sigmoid(sharpness * (least s[i,j] of the judges i <= n)). Two objectives:

    attention   mean over pairs of future[n,j] (1 - m[n,j]) + price * m[n,j],  future: the largest weight that n or any later
                query will give j in any head of the gate
    output      |(o_masked - o_dense) W_o|^2 / |o_dense W_o|^2 + price * mean m, on QUERIES of the queries
"""

import math

import torch

import batches
import checkpoint
import frozen
import gates
import trainer

OBJECTIVES = ("attention", "output")
QUERIES = 256             # of a window, drawn anew for each layer, for the objective `output`
WARMUP = 10               # steps
DECAY = 0.6               # part of the steps over which the rates fall
BIAS_SPEED = 10.0         # learning rate of a gate's scalar against that of its matrices


def sharpness_at(progress, first, last):
    """A straight line from `first` to `last` as progress goes from 0 to 1."""
    return first + (last - first) * min(1.0, progress)


class AttentionLoss(torch.autograd.Function):
    """The objective `attention` of gates, as `frozen.judge` has them: (loss, mean m of causal pairs).

    peak: of `frozen.read`.
    """

    @staticmethod
    def forward(ctx, q, k, b, peak, price, sharpness, recent, sinks):
        batch, heads, length, _ = q.shape
        reach = max(0, length - max(recent, 1) - sinks)                      # queries that judge the first key they may
        judged = max(1, reach * (reach + 1) // 2) * batch * heads
        causal = length * (length + 1) // 2 * batch * heads
        grads = [torch.zeros_like(part) for part in (q, k, b)]
        total = kept = 0.0
        for part in frozen.judge(q, k, b, recent, sinks):
            need = peak[part.row, part.head, part.start:, part.start:part.stop].t()
            need = frozen.still_to_come(need).div_(judged)
            part.near(need).masked_fill_(part.ages < max(recent, 1), 0.0)
            need[:max(0, sinks - part.start)] = 0.0
            mask = part.low.mul_(sharpness).sigmoid_()
            part.near(mask).masked_fill_(part.ages < 0, 0.0)
            kept += mask.sum().item()
            total += need.sum().item()
            worth = need.sub_(price / causal)
            slope = torch.addcmul(mask, mask, mask, value=-1.0).mul_(worth).mul_(-sharpness)
            total -= worth.mul_(mask).sum().item()
            part.teach(slope, q, k, grads)
        ctx.save_for_backward(*grads)
        return q.new_tensor(total), q.new_tensor(kept / causal)

    @staticmethod
    def backward(ctx, grad, _):
        return (*(part * grad for part in ctx.saved_tensors), None, None, None, None, None)


def output_loss(attention, low, q, k, v, mixed, price, sharpness, rows):
    """What the layer writes into the stream at queries `rows`, against what it wrote when dense -> (loss, mean m)."""
    batch, kv, group, _, size = q.shape
    length = low.shape[-1]
    causal = ~frozen.future(length, q.device)
    mask = torch.nn.functional.logsigmoid(sharpness * low[:, :, rows])
    logits = (q[:, :, :, rows].reshape(batch, kv, -1, size) @ k.transpose(2, 3)).view(batch, kv, group, len(rows), length)
    logits = logits.masked_fill(~causal[rows], -math.inf) + mask[:, :, None]
    found = (logits.softmax(-1).view(batch, kv, -1, length) @ v).view(batch, kv, group, len(rows), size)
    wrote = attention.join(mixed[:, :, :, rows])
    error = (attention.join(found) - wrote).pow(2).sum() / wrote.pow(2).sum()
    kept = (mask.exp() * causal[rows]).sum() / (causal[rows].sum() * batch * low.shape[1])
    return error + price * kept, kept.detach()


def layer_gradients(decoder, tokens, *, objective, price, sharpness, generator):
    """One dense pass over tokens int64 [B, T] in which every gate meets its objective.

    Returns (gradients in the order of `decoder.gates().parameters()`, losses [n_layers], kept of causal pairs [n_layers]).
    """
    spared = decoder.config.gate.spared
    with torch.no_grad():
        x, rope = decoder.begin(tokens)
    gradients, losses, kept = [], [], []
    for block in decoder.blocks:
        attention = block.attention
        with torch.no_grad():
            h = block.norm1(x)
            q, k, v = attention.project(h, rope)
            if objective == "attention":
                mixed, peak = frozen.read(q, k, v, attention.gate.heads)
            else:
                mixed = frozen.attend(q, k, v)
        if objective == "attention":
            loss, keeps = AttentionLoss.apply(*attention.gate.project(h), attention.gate.b, peak, price, sharpness, *spared)
        else:
            low = gates.running_minimum(attention.gate(h), *spared)
            rows = torch.randperm(tokens.shape[1], generator=generator)[:QUERIES].sort().values
            loss, keeps = output_loss(attention, low, q, k, v, mixed, price, sharpness, rows)
        gradients += torch.autograd.grad(loss, list(attention.gate.parameters()))
        losses.append(loss.item())
        kept.append(keeps.item())
        with torch.no_grad():
            x = x + attention.join(mixed)
            x = x + block.mlp(block.norm2(x))
    return gradients, losses, kept


def begin_from(own, start, threshold):
    """Copies gates into others that are as wide; where those are one for each kv-head, each begins as its layer's.

    own, start: `model.Decoder.gates()`; threshold: of `start`, which becomes part of the scalars.
    """
    with torch.no_grad():
        for new, old in zip(own, start):
            if new.dim != old.dim or new.heads % old.heads:
                raise ValueError(f"gates to begin with: expected {new.heads} a layer, or one, of dim {new.dim}, "
                                 f"found {old.heads} of dim {old.dim}")
            copies = new.heads // old.heads
            new.wq.weight.copy_(old.wq.weight.repeat(copies, 1))
            new.wk.weight.copy_(old.wk.weight.repeat(copies, 1))
            new.b.copy_(old.b.repeat(copies) - threshold)


def train(base, folder, out, *, gate, bias, sidecar=None, objective, price, steps, length, batch_size, rate, sharpness, recall_share,
          workers=1, seed=1, device=None, bf16=None):
    """Gates for the directory `base`, trained on the prepared `folder`; returns the model. Resumes from out/state.pt.

    gate: `gates.GateConfig`; bias: its scalar at the start; sidecar: gates to begin with instead, as `begin_from` does; objective: one of OBJECTIVES; price: of a kept pair, in what the
    objective counts; sharpness: first and last; workers: windows of a step that are worked on side by side.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, found {objective!r}")
    torch.manual_seed(seed)
    device = trainer.pick_device(device)
    decoder = checkpoint.load(base, gate_config=gate, gate_bias=bias).freeze(trainer.fast_type(device, bf16)).to(device)
    own = decoder.gates()
    if sidecar:
        start = checkpoint.load(base, sidecar)
        begin_from(own, start.gates(), start.config.gate.threshold)
    matrices, scalars = trainer.weight_groups(own.parameters(), weight_decay=0.0)
    scalars["scale"] = BIAS_SPEED
    run = trainer.Trainer(own, out, [matrices, scalars], peak=rate, warmup=WARMUP, decay=DECAY, bf16=False,
                          save_every=trainer.SMALL_STATE, also=lambda: checkpoint.save_run_gates(decoder, out))
    supply = batches.Batches(folder, recall_share, seed)
    team = trainer.Team(workers)

    def loss_of(step):
        inputs, _ = supply.batch(step, batch_size, length)
        beta = sharpness_at(step / steps, *sharpness)

        def one(row):
            generator = torch.Generator().manual_seed(seed + 1000003 * step + row)
            return layer_gradients(decoder, inputs[row:row + 1].to(device), objective=objective, price=price,
                                   sharpness=beta, generator=generator)

        found = team.map(one, range(batch_size))
        trainer.set_gradients(own, [gradients for gradients, _, _ in found])
        losses, kept = (torch.tensor([row[part] for row in found]).mean(0) for part in (1, 2))
        return losses.mean(), inputs.numel(), {"sharpness": beta, "kept": kept.mean().item(),
                                               "loss_per_layer": losses.tolist(), "kept_per_layer": kept.tolist()}

    run.run(steps, loss_of)
    return decoder
