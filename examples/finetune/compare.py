# SPDX-License-Identifier: MIT
"""One table and one picture: perplexity and recall against the kept fraction, for gates, their strengths and a window."""

import json
import os

import checkpoint
import evaluate

FRACTIONS = (0.05, 0.1, 0.2, 0.5)    # kept fractions of the plain windows that everything is held against


def measure(judge, tokens, vocab, length, windows, documents):
    """One row: nll, perplexity, kept fraction and recall."""
    row = evaluate.perplexity(judge, tokens, length, windows)
    if documents:
        recall = evaluate.recall_accuracy(judge, vocab, tokens, length, documents)
        row.update(recall=recall["accuracy"], recall_nll=recall["nll"], recall_kept=recall["kept"],
                   recall_by_distance=[part["accuracy"] for part in recall["by_distance"]])
    return row


def compare(folder, sidecars, tokens, vocab, length, windows, documents, taus=(), device="cpu"):
    """Rows for the dense model, each of `sidecars` (a file, or None for the model's own gates) with a window that keeps
    as much, the first of them at each run-time strength of `taus`, and windows of FRACTIONS.

    value_kept is R = (nll_window - nll) / (nll_window - nll_dense), the part of the value of context that is left.
    """
    def row(name, decoder, mode, **how):
        found = measure(evaluate.Judge(decoder.to(device), mode, **how), tokens, vocab, length, windows, documents)
        return {"name": name, **found}

    gated = [(name, checkpoint.load(folder, path)) for name, path in sidecars.items()]
    dense = row("dense", gated[0][1], "dense")
    rows = [dense]
    for name, decoder in gated:
        rows.append(row(name, decoder, "gate"))
        rows.append(row(f"window as {name}", decoder, "window", keep=rows[-1]["kept"]))
        value = rows[-1]["nll"] - dense["nll"]
        if value > 0:
            rows[-2]["value_kept"] = (rows[-1]["nll"] - rows[-2]["nll"]) / value
    name, decoder = gated[0]
    rows += [row(f"{name} tau {tau:g}", decoder, "gate", tau=tau) for tau in taus]
    rows += [row(f"window {keep:.0%}", decoder, "window", keep=keep) for keep in FRACTIONS]
    return rows


def table(rows):
    """The rows as a Markdown table."""
    lines = ["| | kept | kept of all pairs | nll | perplexity | recall | value of context kept |",
             "|---|---|---|---|---|---|---|"]
    for row in rows:
        recall = f"{row['recall']:.1%}" if "recall" in row else ""
        value = f"{row['value_kept']:.2f}" if "value_kept" in row else ""
        lines.append(f"| {row['name']} | {row['kept']:.3f} | {row['kept_pairs']:.3f} | {row['nll']:.4f} "
                     f"| {row['perplexity']:.2f} | {recall} | {value} |")
    return "\n".join(lines)


def save(rows, out):
    """out/compare.json, out/compare.md and, where matplotlib is installed, out/compare.png."""
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "compare.json"), "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
    with open(os.path.join(out, "compare.md"), "w", encoding="utf-8") as file:
        file.write(table(rows) + "\n")
    try:
        draw(rows, os.path.join(out, "compare.png"))
    except ImportError:
        pass


def draw(rows, path):
    """Perplexity, and recall if it was measured, against the kept fraction."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    quantities = [key for key in ("perplexity", "recall") if key in rows[0]]
    figure, axes = pyplot.subplots(1, len(quantities), squeeze=False, figsize=(5.5 * len(quantities), 4))
    for axis, key in zip(axes[0], quantities):
        for mode, marker in (("gate", "o"), ("window", "x")):
            found = sorted((row["kept"], row[key]) for row in rows if row["mode"] == mode)
            axis.plot([kept for kept, _ in found], [value for _, value in found], marker, label=mode)
        axis.axhline(rows[0][key], color="grey", linewidth=0.8, label="dense")
        axis.set(xlabel="kept fraction of the context", ylabel=key)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
