# SPDX-License-Identifier: MIT
"""The `pith` command as a judge: its own forward pass and its own eviction, measured by the same rules as the trainer's."""

import json
import os
import subprocess
import tempfile

import numpy
import torch


def call(pith, *arguments):
    """The JSON object that `pith ARGUMENTS --json` prints."""
    words = [str(word) for word in (pith, *arguments, "--json", "-q")]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{' '.join(words)}: exit status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def seen(drop_at):
    """`drop_at` of one layer, [position] or [head][position] -> keys that each query sees, mean over heads: float64 [T]."""
    heads = torch.tensor(drop_at).reshape(-1, len(drop_at[0]) if isinstance(drop_at[0], list) else len(drop_at))
    gone = torch.stack([torch.bincount(head[head >= 0], minlength=len(head)).cumsum(0) for head in heads])
    return torch.arange(1, heads.shape[1] + 1) - gone.double().mean(0)


class Deployed:
    """A model directory run by `pith eval` under a policy; called as `evaluate.Judge` is."""

    def __init__(self, pith, folder, policy, *, chunk=256, gates=None):
        """policy: as `pith --policy` has it; chunk: tokens a forward pass; gates: sidecar."""
        self.mode = policy
        self.words = [pith, "eval", "-m", folder, "--policy", policy, "-b", chunk, "-t", 1]
        self.words += ["--gates", gates] if gates else []

    def __call__(self, tokens):
        """tokens int64 [B, T] -> (logits [B, T, V], keys that each query sees: float64 [n_layers, B, T])."""
        rows = [self.window(row) for row in tokens]
        return (torch.stack([logits for logits, _ in rows]),
                torch.stack([torch.stack([seen(layer) for layer in drop_at]) for _, drop_at in rows], 1))

    def window(self, tokens):
        """tokens int64 [T] -> (logits [T, V], drop_at: for each layer [position], or [head][position])."""
        with tempfile.TemporaryDirectory() as folder:
            ids, logits = os.path.join(folder, "ids.json"), os.path.join(folder, "logits.f32")
            with open(ids, "w", encoding="utf-8") as file:
                json.dump(tokens.tolist(), file)
            found = call(*self.words, "--tokens", ids, "--logits", logits)
            values = numpy.fromfile(logits, dtype="<f4").reshape(len(tokens), -1)
        return torch.from_numpy(values), found["drop_at"]
