# SPDX-License-Identifier: MIT
"""Gates of a frozen model taught by its own dense predictions, end to end: what is dropped is dropped as it will be when run.

A step runs one of several strengths. Strength i adds tau_i to the gates' threshold and is to keep the part keep_i of all
causal pairs, so one set of gates serves all of them, and every layer keeps what its keys are worth to the predictions:

    loss = KL(dense || gated) / price_i + kept pairs

price_i, the nats that all pairs together are worth, is what KL would gain over what would be kept if all logits rose alike
(the Lagrange multiplier, averaged over steps), times exp(PULL * (kept - keep_i) / keep_i), which leads kept to keep_i.
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
AVERAGE = 0.8             # of the last price's parts in the next one
PULL = 2.0                # by which a price answers to what is kept beyond what was asked for
LEAST = 1e-6              # nats, of a price
THINNING = 7              # of so many pairs one is looked at where a tau is sought


class Strengths(torch.nn.Module):
    """The gates that learn, and of each strength its tau and the parts of its price, saved and resumed with them."""

    def __init__(self, own, taus):
        super().__init__()
        self.own = own
        self.register_buffer("taus", torch.tensor(taus))
        self.register_buffer("parts", torch.zeros(len(taus), 2))    # what KL gains, what is kept, as all logits rise alike

    def price(self, which, gain, rise, kept, keep):
        """The price of a strength at a step that kept `kept` where `keep` was asked for; nats."""
        fresh = torch.tensor([gain, rise])
        first = not self.parts[which].any()
        self.parts[which] = fresh if first else AVERAGE * self.parts[which] + (1.0 - AVERAGE) * fresh
        gain, rise = self.parts[which].tolist()
        pull = PULL * max(-1.0, min(1.0, (kept - keep) / keep))
        return max(gain / max(rise, 1e-12), LEAST) * math.exp(pull)


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
            low = gates.running_minimum(block.attention.gate(h), *decoder.config.gate.spared)
            lows.append(low[:, :, causal].flatten()[::THINNING])
            x = x + block.attention.join(frozen.attend(*block.attention.project(h, rope)))
            x = x + block.mlp(block.norm2(x))
    lows = torch.cat(lows).sort(descending=True).values
    finite = lows[torch.isfinite(lows)]
    return [min(lows[min(len(lows) - 1, int(keep * len(lows)))].item(), finite.max().item()) for keep in keeps]


class Row:
    """One window at one strength: what it costs and keeps, and the pull of both on every margin."""

    def __init__(self, decoder, head, tokens, tau, sharpness):
        """tokens int64 [1, T]"""
        taught = frozen.dense_hidden(decoder, tokens)
        said, margins, self.twins = frozen.gated_hidden(decoder, tokens, tau, sharpness)
        apart = frozen.Divergence.apply(said, taught, head)
        self.pulls = torch.autograd.grad(apart, margins)
        found = [frozen.kept_pairs(margin.detach(), sharpness) for margin in margins]
        self.apart, self.kept = apart.item(), [kept for kept, _ in found]
        self.slopes = [slope.div_(len(found)) for _, slope in found]
        self.gain = -sum(pull.sum().item() for pull in self.pulls)
        self.rise = sum(slope.sum().item() for slope in self.slopes)

    def gradients(self, parameters, price):
        """Of apart / price + mean kept."""
        pulls = [slope.add_(pull, alpha=1.0 / price) for slope, pull in zip(self.slopes, self.pulls)]
        return torch.autograd.grad(self.twins, parameters, pulls)


def train(base, folder, out, *, sidecar, keeps, steps, length, batch_size, rate, sharpness, recall_share, bias_speed=10.0,
          recent=None, sinks=None, workers=1, seed=1, device=None, bf16=None):
    """Train the gates that `base` has, or that `sidecar` gives it, on the prepared `folder`; returns the model.

    keeps: fractions of all causal pairs, one a strength; the first is the one of the gates' own threshold. sharpness: of
    the sigmoid whose slope stands for the step's. bias_speed: learning rate of a gate's scalar, which settles what it keeps
    beside the others, against that of its matrices. recent, sinks: other than the gates were made for. Resumes from out/state.pt.
    """
    device = trainer.pick_device(device)
    kind = trainer.fast_type(device, bf16)
    decoder = checkpoint.load(base, sidecar)
    if decoder.config.gate is None:
        raise ValueError(f"{base}: expected a model with gates to go on with, found a dense one")
    decoder.config.gate.spare(recent, sinks)
    decoder.freeze(kind).to(device)
    head = decoder.head_weight().detach().to(kind)
    supply = batches.Batches(folder, recall_share, seed)
    own = decoder.gates()
    strengths = Strengths(own, taus_for(decoder, supply.batch(0, 2, length)[0].to(device), keeps)).to(device)
    matrices, scalars = trainer.weight_groups(own.parameters(), weight_decay=0.0)
    scalars["scale"] = bias_speed
    run = trainer.Trainer(strengths, out, [matrices, scalars], peak=rate, warmup=min(WARMUP, steps // 10), decay=DECAY, bf16=False,
                          save_every=trainer.SMALL_STATE, also=lambda: checkpoint.save_run_gates(decoder, out))
    decoder.config.gate.threshold = strengths.taus[0].item()
    team = trainer.Team(workers)
    parameters = list(own.parameters())

    def loss_of(step):
        which = step % len(keeps)
        inputs, _ = supply.batch(step, batch_size, length)
        tau = strengths.taus[which].item()
        rows = team.map(lambda row: Row(decoder, head, row[None].to(device), tau, sharpness), inputs)
        apart, gain, rise = (sum(getattr(row, part) for row in rows) / batch_size for part in ("apart", "gain", "rise"))
        layers = torch.tensor([row.kept for row in rows]).mean(0)
        kept = layers.mean().item()
        price = strengths.price(which, gain, rise, kept, keeps[which])
        trainer.set_gradients(own, team.map(lambda row: row.gradients(parameters, price), rows))
        return torch.tensor(apart / price + kept), inputs.numel(), {
            "strength": which, "tau": tau - strengths.taus[0].item(), "price": price, "fit": apart, "kept": kept,
            "kept_per_layer": layers.tolist()}

    run.run(steps, loss_of, log_every=1)
    return decoder
