# SPDX-License-Identifier: MIT
"""Gates for a trained model: the soft mask sharpens, alpha rising on a cosine, while a sparsity loss asks for less context.

`all` trains the whole model on the next token, as the paper does, and ends with the gates frozen at their steps, so that
what is trained is what is run. `gates` leaves the model alone and distils its own dense predictions. `dense` is the control
of `all`: the whole model without gates, on the same batches at the same rates.
"""

import math

import torch

import batches
import checkpoint
import gates
import model
import trainer
from pretrain import next_token_loss

TRAINED = ("all", "gates", "dense")
KEEP_FALL = 0.6     # progress of the soft phase at which the sparsity loss asks for all that it will
WARMUP = 20         # steps
DECAY = 0.5         # part of the steps over which the rates fall: a step mask needs finer steps than a ramp
BIAS_SPEED = 3.0    # learning rate of a gate's scalar, which moves its whole layer, against that of its matrices


def alpha_at(progress, first, last):
    """The cosine from `first` to `last` as progress goes from 0 to 1 (arXiv 2305.15805 section 3.2)."""
    return first + (last - first) * 0.5 * (1.0 - math.cos(math.pi * min(1.0, max(0.0, progress))))


def keep_at(progress, first, last):
    """The kept fraction that is still free of pressure: a straight line from `first` to `last`, reached at KEEP_FALL."""
    return last + (first - last) * max(0.0, 1.0 - progress / KEEP_FALL)


def distillation_loss(logits, taught):
    """KL(taught || logits) in nats a token; both [B, T, V]."""
    log_p, log_q = taught.float().log_softmax(-1), logits.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def sparsity_loss(masks, keep):
    """By how much the mean kept over queries (and layers) exceeds `keep`: scalar; and kept per layer."""
    kept = torch.stack([gates.soft_kept_fraction(mask).mean() for mask in masks])
    return (kept.mean() - keep).clamp_min(0.0), kept.detach()


def adapt(base, folder, out, *, train, gate, bias, gamma, keep, steps, step_phase, length, batch_size, rate, gate_rate,
          alphas, step_taus, recall_share, seed=1, device=None, bf16=None):
    """Train the gates of the directory `base` on the prepared `folder`; returns the model. Resumes from out/state.pt.

    gate: `gates.GateConfig` of new gates, their scalar at `bias`, or None to go on with those that `base` has, or for
    `dense`;
    gamma: weight of the sparsity loss; keep: the kept fraction below which it no longer presses, reached from 1 by new
    gates; step_phase: fraction of `steps` at the end that runs step gates, frozen (with `all`); rate, gate_rate: peak
    learning rates of the model and of its gates; alphas: first and last alpha; step_taus: run-time strengths that the step
    phase takes turns in, so that one model stands several of them; -inf is the dense model.
    """
    if train not in TRAINED:
        raise ValueError(f"train: expected one of {', '.join(TRAINED)}, found {train!r}")
    torch.manual_seed(seed)
    decoder = checkpoint.load(base, gate_config=gate, gate_bias=bias)
    if decoder.config.gate is None and train != "dense":
        raise ValueError(f"{base}: expected a model with gates to go on with, found a dense one")
    decoder.to(trainer.pick_device(device))
    own = [parameter for _, parameter in decoder.gate_parameters()]
    rest = [parameter for name, parameter in decoder.named_parameters() if ".gate." not in name]
    for parameter in rest:
        parameter.requires_grad_(train != "gates")
    for parameter in own:
        parameter.requires_grad_(train != "dense")
    matrices, scalars = trainer.weight_groups(own, weight_decay=0.0, scale=gate_rate / rate)
    scalars["scale"] *= BIAS_SPEED
    groups = [matrices, scalars, *trainer.weight_groups(rest)]
    run = trainer.Trainer(decoder, out, [group for group in groups if group["params"]], peak=rate, warmup=WARMUP,
                          decay=DECAY, bf16=bf16)
    supply = batches.Batches(folder, recall_share, seed)
    soft_steps = steps if train == "gates" else round(steps * (1.0 - step_phase))

    def loss_of(step):
        inputs, targets = (part.to(run.device) for part in supply.batch(step, batch_size, length))
        if train == "dense":
            logits, _ = decoder(inputs)
            loss, extra = next_token_loss(logits, targets), {}
        elif step < soft_steps:
            progress = step / soft_steps
            loss, extra = _soft_loss(decoder, inputs, targets, train, alpha_at(progress, *alphas), gamma,
                                     keep_at(progress, 1.0 if gate else keep, keep))
        else:
            for parameter in own:
                parameter.requires_grad_(False)
            loss, extra = _step_loss(decoder, inputs, targets, step_taus[step % len(step_taus)])
        return loss, inputs.numel(), extra

    run.run(steps, loss_of)
    return decoder


def _soft_loss(decoder, inputs, targets, train, alpha, gamma, keep):
    """Loss at soft gates, and what to log of it."""
    logits, masks = decoder(inputs, model.Visibility(alpha=alpha))
    pressure, kept = sparsity_loss(masks, keep)
    if train == "gates":
        with torch.no_grad():
            taught, _ = decoder(inputs)
        fit = distillation_loss(logits, taught)
    else:
        fit = next_token_loss(logits, targets)
    return fit + gamma * pressure, {"alpha": alpha, "fit": fit.item(), "kept": kept.mean().item(),
                                    "kept_per_layer": kept.tolist()}


def _step_loss(decoder, inputs, targets, tau):
    """Loss at step gates of strength tau, and what to log of it."""
    logits, gone = decoder(inputs, model.Visibility(threshold=decoder.config.gate.threshold + tau))
    loss = next_token_loss(logits, targets)
    kept = [gates.kept_fraction(layer).mean().item() for layer in gone]
    return loss, {"fit": loss.item(), "kept": sum(kept) / len(kept), "kept_per_layer": kept}
