# SPDX-License-Identifier: MIT
"""Gates of a frozen model taught by its own dense predictions, end to end: what is dropped is dropped as it will be when run.

A step runs one of several strengths. Strength i adds tau_i to the gates' threshold and is to keep the part keep_i of all
causal pairs, so one set of gates serves all of them, and every layer keeps what its keys are worth to the predictions:

    loss = KL(dense || gated) / price_i + kept pairs

price_i, the nats that all pairs together may cost, is raised while more than keep_i is kept and lowered while less.
"""

import math

import torch

import batches
import checkpoint
import frozen
import gates
import trainer

WARMUP = 10               # steps
DECAY = 0.6               # part of the steps over which the rates fall
BIAS_SPEED = 10.0         # learning rate of a gate's scalar against that of its matrices
PRICE_SPEED = 0.5         # log(price) moves by this much times (kept - keep) / keep a step
PRICE_BOUNDS = (1e-4, 1e4)


class Strengths(torch.nn.Module):
    """The gates that learn, and of each strength its tau and price, which are saved and resumed with them."""

    def __init__(self, own, taus, price):
        super().__init__()
        self.own = own
        self.register_buffer("taus", torch.tensor(taus))
        self.register_buffer("prices", torch.full((len(taus),), float(price)))

    def settle(self, which, kept, keep):
        """Move the price of a strength after a step that kept `kept` where `keep` was asked for."""
        moved = math.log(self.prices[which].item()) + PRICE_SPEED * max(-1.0, min(1.0, (kept - keep) / keep))
        self.prices[which] = min(max(math.exp(moved), PRICE_BOUNDS[0]), PRICE_BOUNDS[1])


@torch.no_grad()
def taus_for(decoder, rows, keeps):
    """The tau at which each fraction of `keeps` of all causal pairs is left, by the dense pass over rows int64 [N, T].

    A fraction that the recent keys alone exceed gets the tau that drops all it may.
    """
    causal = torch.ones(rows.shape[1], rows.shape[1], dtype=torch.bool).tril()
    lows = []
    for row in rows:
        x, rope = decoder.begin(row[None])
        for block in decoder.blocks:
            h = block.norm1(x)
            low = gates.running_minimum(block.attention.gate(h), decoder.config.gate.recent)
            lows.append(low[:, :, causal].flatten()[::7])
            x = x + block.attention.join(frozen.attend(*block.attention.project(h, rope)))
            x = x + block.mlp(block.norm2(x))
    lows = torch.cat(lows).sort(descending=True).values
    finite = lows[torch.isfinite(lows)]
    return [min(lows[min(len(lows) - 1, int(keep * len(lows)))].item(), finite.max().item()) for keep in keeps]


def train(base, folder, out, *, sidecar, keeps, price, steps, length, batch_size, rate, sharpness, recall_share, workers=1,
          seed=1, device=None, bf16=None):
    """Train the gates that `base` has, or that `sidecar` gives it, on the prepared `folder`; returns the model.

    keeps: fractions of all causal pairs, one a strength; the first is the one of the gates' own threshold. price: where the
    prices start, nats; sharpness: of the sigmoid whose slope stands for the step's. Resumes from out/state.pt.
    """
    device = trainer.pick_device(device)
    kind = trainer.fast_type(device, bf16)
    decoder = checkpoint.load(base, sidecar)
    if decoder.config.gate is None:
        raise ValueError(f"{base}: expected a model with gates to go on with, found a dense one")
    decoder.freeze(kind).to(device)
    head = decoder.head_weight().detach().to(kind)
    supply = batches.Batches(folder, recall_share, seed)
    own = decoder.gates()
    taus = taus_for(decoder, supply.batch(0, 2, length)[0].to(device), keeps)
    strengths = Strengths(own, taus, price).to(device)
    matrices, scalars = trainer.weight_groups(own.parameters(), weight_decay=0.0)
    scalars["scale"] = BIAS_SPEED
    run = trainer.Trainer(strengths, out, [matrices, scalars], peak=rate, warmup=WARMUP, decay=DECAY, bf16=False,
                          save_every=trainer.SMALL_STATE)
    team = trainer.Team(workers)
    parameters = list(own.parameters())

    def loss_of(step):
        which = step % len(keeps)
        inputs, _ = supply.batch(step, batch_size, length)
        tau, price = strengths.taus[which].item(), strengths.prices[which].item()

        def one(row):
            tokens = inputs[row:row + 1].to(device)
            taught = frozen.dense_hidden(decoder, tokens)
            said, kept = frozen.gated_hidden(decoder, tokens, tau, sharpness)
            apart = frozen.Divergence.apply(said, taught, head)
            gradients = torch.autograd.grad(apart / price + kept.mean(), parameters)
            return gradients, apart.item(), kept.detach()

        found = team.map(one, range(batch_size))
        trainer.set_gradients(own, [gradients for gradients, _, _ in found])
        apart = sum(row[1] for row in found) / batch_size
        kept = torch.stack([row[2] for row in found]).mean(0)
        strengths.settle(which, kept.mean().item(), keeps[which])
        return apart / price + kept.mean(), inputs.numel(), {
            "strength": which, "tau": tau, "price": price, "fit": apart, "kept": kept.mean().item(),
            "kept_per_layer": kept.tolist()}

    run.run(steps, loss_of, log_every=len(keeps))
    decoder.config.gate.threshold = strengths.taus[0].item()
    return decoder
