# SPDX-License-Identifier: MIT
"""One table and one picture: perplexity and recall against what is kept, for gates, their strengths, a window and the
policies that need no training.

A family is a dense model and what forgets of it. Everything that a gate is held against keeps as many pairs of query and
key as the gate does, so it takes as much memory and time.
"""

import dataclasses
import json
import os
import typing

import numpy
import torch

import checkpoint
import deployed
import evaluate

FRACTIONS = (0.05, 0.1, 0.2, 0.5)    # of all pairs, kept by the plain windows of the curves
POLICIES = {"h2o": lambda rows: f"h2o(rows={rows},recent={rows // 2})"}    # half of them recent, as in the paper
COLOURS = {"dense": "grey", "gates": "C0", "window": "C1", **{name: f"C{i + 2}" for i, name in enumerate(POLICIES)}}
CHUNK = 1                            # tokens a pass of those policies: the papers forget after every token


@dataclasses.dataclass
class Family:
    """A dense model's directory and gated ones: name -> (directory, sidecar or None)."""

    name: str
    dense: str
    gated: dict


@dataclasses.dataclass
class Measures:
    """What every judge is asked."""

    vocab: typing.Any
    texts: dict        # name -> ids [n]; recall documents are made of the first
    length: int        # tokens a window
    windows: int       # spread over each text
    documents: int     # recall documents, may be 0

    def take(self, judge):
        """`evaluate.perplexity` of the first text, of each one under `texts`, and `evaluate.recall_accuracy`."""
        texts = {name: evaluate.perplexity(judge, ids, self.length, self.windows) for name, ids in self.texts.items()}
        found = {**next(iter(texts.values())), "texts": texts}
        if self.documents:
            found["recall"] = evaluate.recall_accuracy(judge, self.vocab, self._first(), self.length, self.documents)
        return found

    def first_window(self):
        """int64 [1, length]"""
        return torch.from_numpy(numpy.asarray(self._first()[:self.length], dtype=numpy.int64))[None]

    def _first(self):
        return next(iter(self.texts.values()))


def rows_for(judge_of, keep, tokens):
    """The fewest rows with which `judge_of(rows)` keeps the fraction `keep` of all pairs of tokens [1, T], by bisection."""
    def kept(rows):
        counter = evaluate.Kept()
        counter.add(judge_of(rows)(tokens)[1])
        return counter.to_json()["kept_pairs"]

    low, high = 2, tokens.shape[1]
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if kept(middle) < keep else (low, middle)
    return low


class Comparison:
    """Rows of families. Each has beside its measures the `family` and, within it, `cost`: perplexity / dense - 1; a gate
    has `value_kept`: R = (nll_window - nll) / (nll_window - nll_dense), the part of the value of context that is left.
    """

    def __init__(self, measures, pith=None, device="cpu", tell=lambda row: None):
        """pith: the command, without which POLICIES are left out; tell: called with each row."""
        self.measures, self.pith, self.device, self.tell = measures, pith, device, tell
        self.rows, self.dense = [], None

    def add_family(self, family):
        """The dense model; each gate, with a window and each of POLICIES that keep as many pairs."""
        plain, self.dense = self._load(family.dense), None
        self.dense = self._add(family, "dense", evaluate.Judge(plain, "dense"))
        for name, place in family.gated.items():
            gate = self._add(family, name, evaluate.Judge(self._load(*place), "gate"))
            window = self._add(family, f"window as {name}", self._window(plain, gate["kept_pairs"]))
            for policy, spec in POLICIES.items() if self.pith else ():
                self._add(family, f"{policy} as {name}", self._policy(family, spec, gate["kept_pairs"]))
            value = window["nll"] - self.dense["nll"]
            if value > 0:
                gate["value_kept"] = (window["nll"] - gate["nll"]) / value

    def add_strengths(self, family, taus):
        """The family's first gate at run-time strengths."""
        name, place = next(iter(family.gated.items()))
        decoder = self._load(*place)
        for tau in taus:
            self._add(family, f"{name} tau {tau:g}", evaluate.Judge(decoder, "gate", tau=tau))

    def add_windows(self, family, fractions=FRACTIONS):
        """Sinks + window that keep these fractions of all pairs."""
        plain = self._load(family.dense)
        for keep in fractions:
            self._add(family, f"window {keep:.0%}", self._window(plain, keep))

    def _load(self, folder, sidecar=None):
        return checkpoint.load(folder, sidecar).to(self.device)

    def _window(self, decoder, keep):
        recent = evaluate.window_for(self.measures.length, keep, evaluate.window_pairs)
        return evaluate.Judge(decoder, "window", recent=recent)

    def _policy(self, family, spec, keep):
        def judge_of(rows):
            return deployed.Deployed(self.pith, family.dense, spec(rows), chunk=CHUNK)

        return judge_of(rows_for(judge_of, keep, self.measures.first_window()))

    def _add(self, family, name, judge):
        row = {"family": family.name, "name": name, **self.measures.take(judge)}
        row["cost"] = row["perplexity"] / self.dense["perplexity"] - 1.0 if self.dense else 0.0
        self.rows.append(row)
        self.tell(row)
        return row


def table(rows):
    """The rows as a Markdown table."""
    others = list(rows[0]["texts"])[1:]
    heads = ["", "kept per query", "kept of pairs", "perplexity", "over dense", "value kept", *others]
    if "recall" in rows[0]:
        heads += ["recall", *(f"to {part['to']}" for part in rows[0]["recall"]["by_distance"])]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [f"{row['family']}: {row['name']}", f"{row['kept']:.3f}", f"{row['kept_pairs']:.3f}",
                 f"{row['perplexity']:.2f}", f"{row['cost']:+.1%}",
                 f"{row['value_kept']:.2f}" if "value_kept" in row else "",
                 *(f"{row['texts'][other]['perplexity']:.2f}" for other in others)]
        if "recall" in row:
            cells += [f"{row['recall']['accuracy']:.1%}",
                      *(f"{part['accuracy']:.0%}" for part in row["recall"]["by_distance"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(rows, out):
    """out/compare.json, compare.md and, where matplotlib is installed, compare.svg."""
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "compare.json"), "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
    with open(os.path.join(out, "compare.md"), "w", encoding="utf-8") as file:
        file.write(table(rows) + "\n")
    try:
        draw(rows, os.path.join(out, "compare.svg"))
    except ImportError:
        pass


def draw(rows, path):
    """Perplexity of each text, and recall if it was measured, against what is kept of all pairs."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {f"perplexity, {text}": lambda row, text=text: (row["texts"][text]["kept_pairs"],
                                                             row["texts"][text]["perplexity"])
              for text in rows[0]["texts"]}
    if "recall" in rows[0]:
        panels["recall of facts, %"] = lambda row: (row["recall"]["kept_pairs"], 100 * row["recall"]["accuracy"])
    figure, axes = pyplot.subplots(1, len(panels), squeeze=False, figsize=(4.6 * len(panels), 3.8))
    for axis, (title, point) in zip(axes[0], panels.items()):
        for (family, kind), found in _lines(rows).items():
            points = sorted(map(point, found))
            marker = "o" if family == rows[0]["family"] else "s"
            style = {"color": COLOURS[kind], "linewidth": 1, "label": f"{family}: {kind}"}
            if kind == "dense":
                axis.axhline(points[0][1], linestyle=":" if marker == "o" else "--", **style)
            else:
                axis.plot(*zip(*points), marker=marker, markersize=4, **style)
        axis.set(xlabel="kept of all pairs of query and key", title=title, xscale="log")
        axis.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], ["2 %", "5 %", "10 %", "20 %", "50 %", "100 %"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), fontsize="small", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(rows):
    """What is drawn as one line: (family, kind) -> its rows; run-time strengths lie on the line of the gates."""
    lines = {}
    for row in rows:
        kind = "gates" if row["mode"] == "gate" else row["name"].split()[0]
        lines.setdefault((row["family"], kind), []).append(row)
    return lines
