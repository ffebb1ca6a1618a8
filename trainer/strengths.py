# SPDX-License-Identifier: MIT
"""What one set of gates costs at several strengths, each beside a window (sinks and recent keys) that keeps as many pairs."""

import numpy
import torch

import distil
import evaluate

CALIBRATION = 2    # windows on which a strength is found


def spread(tokens, length, windows):
    """Windows of a text, evenly spread: int64 [windows, length]."""
    return torch.from_numpy(numpy.stack([numpy.asarray(tokens[at:at + length], dtype=numpy.int64)
                                         for at in evaluate.starts(len(tokens), length, windows)]))


def measure(decoder, texts, keeps, taus, calibration, length, windows, tell=lambda row: None):
    """Rows (dicts) of `evaluate.perplexity` with `text`, `name` and `cost`: perplexity / dense - 1.

    texts: name -> ids [n]; taus: added to the gates' threshold, or None to find those that keep the fractions `keeps` of
    all causal pairs by the dense pass over ids `calibration`, or over the text itself where that is None.
    """
    rows = []
    for text, tokens in texts.items():
        here = taus
        if here is None:
            some = spread(tokens if calibration is None else calibration, length, CALIBRATION)
            here = [tau - decoder.config.gate.threshold
                    for tau in distil.taus_for(decoder, some.to(next(decoder.parameters()).device), keeps)]

        def add(name, judge, text=text, tokens=tokens):
            row = {"text": text, "name": name, **evaluate.perplexity(judge, tokens, length, windows, batch_size=1)}
            row["cost"] = row["perplexity"] / dense["perplexity"] - 1.0 if dense else 0.0
            rows.append(row)
            tell(row)
            return row

        dense = None
        dense = add("dense", evaluate.Judge(decoder, "dense"))
        for tau in here:
            gate = add(f"tau {tau:.3f}", evaluate.Judge(decoder, "gate", tau=tau))
            recent = evaluate.window_for(length, gate["kept_pairs"], evaluate.window_pairs)
            add(f"window {recent}", evaluate.Judge(decoder, "window", recent=recent))
    return rows


def table(rows):
    """The rows as a Markdown table."""
    lines = ["| text | | kept of pairs | perplexity | over dense |", "|---" * 5 + "|"]
    lines += [f"| {row['text']} | {row['name']} | {row['kept_pairs']:.3f} | {row['perplexity']:.3f} | {row['cost']:+.2%} |"
              for row in rows]
    return "\n".join(lines)
