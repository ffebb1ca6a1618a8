# SPDX-License-Identifier: MIT
"""The curves of a run's log.jsonl as one PNG: loss, kept fraction per layer, alpha."""

import json
import os

import trainer


def read_log(folder):
    """Records of folder/log.jsonl in order; a step logged again after a restart counts once."""
    path = os.path.join(folder, trainer.LOG)
    with open(path, encoding="utf-8") as file:
        records = {record["step"]: record for record in map(json.loads, file)}
    if not records:
        raise ValueError(f"{path}: expected at least one record, found none")
    return [records[step] for step in sorted(records)]


def draw(folder, out):
    """Draw what the log holds; needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = read_log(folder)
    panels = [("loss (nats a token)", lambda axes: _loss(axes, records))]
    if any("kept_per_layer" in record for record in records):
        panels.append(("kept fraction", lambda axes: _kept(axes, records)))
    if any("alpha" in record for record in records):
        panels.append(("alpha", lambda axes: _line(axes, records, "alpha")))
    figure, axes = pyplot.subplots(len(panels), 1, sharex=True, squeeze=False, figsize=(8, 2.6 * len(panels)))
    for (title, paint), axis in zip(panels, axes[:, 0]):
        paint(axis)
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


def _line(axes, records, key, **style):
    found = [(record["step"], record[key]) for record in records if key in record]
    axes.plot([step for step, _ in found], [value for _, value in found], **style)


def _loss(axes, records):
    for key in ("loss", "fit"):
        if any(key in record for record in records):
            _line(axes, records, key, label=key, linewidth=0.8)
    axes.legend()


def _kept(axes, records):
    found = [record for record in records if "kept_per_layer" in record]
    for layer in range(len(found[0]["kept_per_layer"])):
        axes.plot([record["step"] for record in found], [record["kept_per_layer"][layer] for record in found],
                  label=f"layer {layer}", linewidth=0.8)
    axes.set_ylim(0, 1.02)
    axes.legend(ncol=4, fontsize="small")
