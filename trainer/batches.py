# SPDX-License-Identifier: MIT
"""Batches of windows of whole books, some turned into recall documents or echoes; batch n is the same after a restart."""

import random

import numpy
import torch

import data
import recall
import tokenizer as bpe


class Batches:
    """A prepared folder as an endless, numbered supply of batches."""

    def __init__(self, folder, recall_share=0.0, seed=1):
        """recall_share: part of the rows that are recall documents."""
        self.vocab = bpe.load(f"{folder}/tokenizer.json")
        self.tokens = data.open_tokens(f"{folder}/train.bin")    # uint16 [tokens]
        self.recall = recall.Recall(self.vocab)
        self.recall_share = recall_share
        self.seed = seed

    def batch(self, number, size, length, echo_share=0.0):
        """Inputs and targets, int64 [size, length] each; echo_share: part of the rows that say a span again and again."""
        rng = random.Random(f"{self.seed}/{number}")
        rows = [self._row(rng, length + 1, echo_share) for _ in range(size)]
        rows = torch.from_numpy(numpy.stack(rows))
        return rows[:, :-1], rows[:, 1:]

    def _row(self, rng, length, echo_share):
        start = rng.randrange(len(self.tokens) - length)
        prose = self.tokens[start:start + length].astype(numpy.int64)
        what = rng.random()
        if what < self.recall_share:
            return self.recall.document(rng, prose, length)[0]
        if what < self.recall_share + echo_share:
            return numpy.resize(prose[:rng.randrange(length // 16 + 1, length // 2)], length)
        return prose
