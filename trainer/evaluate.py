# SPDX-License-Identifier: MIT
"""The training-side truth: perplexity, kept fraction and recall of the masked full forward with step gates."""

import itertools
import math
import random

import numpy
import torch

import gates
import model
import recall
from pretrain import next_token_loss

MODES = ("dense", "gate", "window")
SINKS = 4
BINS = 4    # recall is told for this many equal ranges of distance


def window_kept(length, recent, sinks=SINKS):
    """Mean over `length` queries of the fraction of causal keys that sinks + window leave visible."""
    causal = numpy.arange(1, length + 1)
    return float((numpy.minimum(causal, sinks + recent) / causal).mean())


def window_pairs(length, recent, sinks=SINKS):
    """Of all pairs of `length` queries and their causal keys, the fraction that sinks + window leave visible."""
    causal = numpy.arange(1, length + 1)
    return float(numpy.minimum(causal, sinks + recent).sum() / causal.sum())


def window_for(length, keep, kept=window_kept):
    """Recent keys beside the sinks with which `kept`, of the two above, comes closest to `keep`."""
    return min(range(1, length + 1), key=lambda recent: abs(kept(length, recent) - keep))


def window_mask(length, recent, sinks=SINKS, device=None):
    """0 where a key is among the first `sinks` or the last `recent`, -inf elsewhere: [1, query, key]."""
    visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    visible &= ~torch.ones_like(visible).tril(-recent) | (torch.arange(length, device=device) < sinks)
    return torch.zeros(1, length, length, device=device).masked_fill(~visible, -math.inf)


class Judge:
    """A model seen through one mode."""

    def __init__(self, decoder, mode, *, tau=0.0, recent=None):
        """tau: gate strength, added to the model's threshold; recent: keys of `window` beside its sinks."""
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        if mode == "gate" and decoder.config.gate is None:
            raise ValueError("mode gate: expected a model with gates, found a dense one")
        if mode == "window" and not recent:
            raise ValueError(f"mode window: expected at least one recent key, found {recent}")
        self.decoder, self.mode, self.recent = decoder.eval(), mode, recent
        self.visibility = model.DENSE
        if mode == "gate":
            self.visibility = model.Visibility(threshold=decoder.config.gate.threshold + tau)
        self.device = next(decoder.parameters()).device

    @torch.no_grad()
    def __call__(self, tokens):
        """tokens int64 [B, T] -> (logits [B, T, V], keys that each query sees, mean over heads: float64 [n_layers, B, T])."""
        batch, length = tokens.shape
        if self.mode == "window":
            mask = window_mask(length, self.recent, device=self.device)
            logits, _ = self.decoder(tokens.to(self.device), mask=mask[:, None])
            seen = [(mask == 0).sum(2).expand(batch, -1)] * self.decoder.config.n_layers
        else:
            logits, gone = self.decoder(tokens.to(self.device), self.visibility)
            everything = torch.arange(1, length + 1, device=self.device).expand(batch, -1)
            seen = [gates.visible(layer).double().mean(1) for layer in gone] or [everything] * self.decoder.config.n_layers
        return logits, torch.stack(seen).double().cpu()


class Kept:
    """The fraction of the causal context that queries see, the query itself counted, over any number of windows."""

    def __init__(self):
        self.fractions, self.pairs, self.causal, self.queries = 0.0, 0.0, 0, 0

    def add(self, seen):
        """seen: [n_layers, B, T], of `Judge` or `deployed.Deployed`."""
        causal = torch.arange(1, seen.shape[2] + 1)
        self.fractions = self.fractions + (seen / causal).sum((1, 2)).double()
        self.pairs = self.pairs + seen.sum((1, 2)).double()
        self.causal += int(causal.sum()) * seen.shape[1]
        self.queries += seen.shape[1] * seen.shape[2]

    def to_json(self):
        """kept: mean over queries and layers of visible / causal; kept_pairs: all visible pairs / all causal pairs."""
        fractions, pairs = self.fractions / self.queries, self.pairs / self.causal
        return {"kept": fractions.mean().item(), "kept_per_layer": fractions.tolist(),
                "kept_pairs": pairs.mean().item(), "kept_pairs_per_layer": pairs.tolist()}


def perplexity(judge, tokens, length, windows=None, batch_size=4):
    """Over consecutive windows of `length` tokens, the last one shorter: each window's tokens but the first are predicted.

    tokens: ids [n]; windows: that many whole windows, spread evenly over the text, instead of all. A dict.
    """
    rows = [numpy.asarray(tokens[at:at + length], dtype=numpy.int64) for at in starts(len(tokens), length, windows)]
    nll, counted, kept = 0.0, 0, Kept()
    for batch in _same_length(rows, batch_size):
        logits, seen = judge(batch)
        nll += next_token_loss(logits[:, :-1], batch[:, 1:].to(logits.device), "sum").item()
        counted += batch[:, 1:].numel()
        kept.add(seen)
    return {"mode": judge.mode, "context": length, "tokens": counted, "nll": nll / counted,
            "perplexity": math.exp(nll / counted), **kept.to_json()}


def starts(count, length, windows):
    """Where the windows of a text of `count` tokens begin."""
    if not windows:
        if count < 2:
            raise ValueError(f"tokens: expected at least 2, found {count}")
        return range(0, count - 1, length)
    whole = numpy.arange(0, count - length + 1, length)
    if len(whole) == 0:
        raise ValueError(f"tokens: expected at least one window of {length}, found {count} tokens")
    return whole[numpy.unique(numpy.linspace(0, len(whole) - 1, windows).astype(int))]


def _same_length(rows, batch_size):
    """Batches int64 [B, T] of neighbouring rows; a row of another length is alone."""
    for first in range(0, len(rows), batch_size):
        for _, group in itertools.groupby(rows[first:first + batch_size], len):
            yield torch.from_numpy(numpy.stack(list(group)))


def recall_accuracy(judge, vocab, prose, length, documents, seed=0, batch_size=4):
    """Share of questions whose every answer token is the likeliest one, by distance to the fact.

    prose: ids [n] that the documents are made of; documents: how many of `length` tokens. A dict; nll is per answer.
    """
    maker, rng = recall.Recall(vocab), random.Random(f"recall/{seed}")
    edges = numpy.linspace(0, length, BINS + 1)
    right, asked, updated, nll, kept = numpy.zeros(BINS), numpy.zeros(BINS), [0, 0], 0.0, Kept()
    for first in range(0, documents, batch_size):
        made = []
        for _ in range(min(batch_size, documents - first)):
            at = rng.randrange(len(prose) - length)
            made.append(maker.document(rng, numpy.asarray(prose[at:at + length], dtype=numpy.int64), length))
        batch = torch.from_numpy(numpy.stack([ids for ids, _ in made]))
        logits, seen = judge(batch)
        kept.add(seen)
        scores = logits.float().log_softmax(-1).cpu()
        for row, (ids, questions) in enumerate(made):
            for question in questions:
                span = slice(question.start - 1, question.stop - 1)
                answer = batch[row, question.start:question.stop]
                good = bool((scores[row, span].argmax(-1) == answer).all())
                where = min(BINS - 1, int(question.distance * BINS / length))
                right[where] += good
                asked[where] += 1
                updated[0] += good and question.updated
                updated[1] += question.updated
                nll -= scores[row, span].gather(1, answer[:, None]).sum().item()
    ranges = [{"from": int(edges[i]), "to": int(edges[i + 1]), "questions": int(asked[i]),
               "accuracy": right[i] / max(1, asked[i])} for i in range(BINS)]
    return {"mode": judge.mode, "context": length, "questions": int(asked.sum()), "accuracy": right.sum() / asked.sum(),
            "accuracy_of_updated": updated[0] / max(1, updated[1]), "by_distance": ranges, "nll": nll / asked.sum(),
            "kept": kept.to_json()["kept"], "kept_pairs": kept.to_json()["kept_pairs"]}
