# SPDX-License-Identifier: MIT
"""A small Llama-shaped model from scratch on a prepared folder."""

import torch

import batches
import induction
import model
import trainer


STARTS = ("planted", "random")
ECHO_FALL = 0.15    # progress at which echoes have become rare


def config_of(vocab_size, end, d_model, n_layers, n_heads, n_kv_heads, context):
    """Llama proportions: the gated MLP is 8/3 wide, rounded up to a multiple of 32."""
    d_ff = -(-8 * d_model // 3 // 32) * 32
    return model.Config("llama", vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_model // n_heads, d_ff, context,
                        rope_theta=500000.0, end=end)


def next_token_loss(logits, targets, reduction="mean"):
    """Cross entropy in nats; logits [B, T, V], targets int64 [B, T]."""
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction=reduction)


def length_at(stages, progress):
    """Context length of the last stage that has begun; stages [(length, progress it begins at)]."""
    return [length for length, begin in stages if progress >= begin][-1]


def echo_at(progress, first, last):
    """Part of the rows that are echoes: a straight line from `first` to `last`, reached at ECHO_FALL."""
    return last + (first - last) * max(0.0, 1.0 - progress / ECHO_FALL)


def pretrain(folder, out, *, d_model, n_layers, n_heads, n_kv_heads, stages, steps, batch_tokens, rate, recall_share,
             echo, start="planted", seed=1, device=None, bf16=None):
    """Train `steps` steps of batch_tokens tokens; returns the model. Resumes from out/state.pt.

    echo: parts of the rows that are echoes, at the start and from ECHO_FALL of the run on; start: one of STARTS, how the
    weights begin (`induction.plant`).
    """
    torch.manual_seed(seed)
    supply = batches.Batches(folder, recall_share, seed)
    context = max(length for length, _ in stages)
    config = config_of(supply.vocab.size, supply.vocab.end, d_model, n_layers, n_heads, n_kv_heads, context)
    decoder = model.Decoder(config)
    if start == "planted":
        induction.plant(decoder)
    decoder.to(trainer.pick_device(device))
    run = trainer.Trainer(decoder, out, trainer.weight_groups(decoder.parameters()), peak=rate, bf16=bf16)

    def loss_of(step):
        length = length_at(stages, step / steps)
        share = echo_at(step / steps, *echo)
        inputs, targets = supply.batch(step, max(1, batch_tokens // length), length, share)
        logits, _ = decoder(inputs.to(run.device))
        return next_token_loss(logits, targets.to(run.device)), inputs.numel(), {"length": length}

    run.run(steps, loss_of)
    return decoder
