# SPDX-License-Identifier: MIT
import math
import unittest

import support

import numpy
import torch

import evaluate
import gates
import model
import tokenizer as bpe


class Window(unittest.TestCase):
    def test_mask_shows_sinks_and_the_recent(self):
        visible = evaluate.window_mask(10, 3, sinks=2)[0] == 0
        for n in range(10):
            expected = [j for j in range(n + 1) if j < 2 or n - j < 3]
            self.assertEqual(visible[n].nonzero().flatten().tolist(), expected)

    def test_kept_fraction_is_that_of_the_mask(self):
        for recent in (1, 5, 40):
            visible = (evaluate.window_mask(40, recent)[0] == 0).sum(1)
            exact = (visible / torch.arange(1, 41)).mean().item()
            self.assertAlmostEqual(evaluate.window_kept(40, recent), exact, delta=0.06)

    def test_kept_pairs_are_those_of_the_mask(self):
        for recent in (1, 5, 40):
            visible = (evaluate.window_mask(40, recent)[0] == 0).sum().item()
            self.assertAlmostEqual(evaluate.window_pairs(40, recent), visible / (40 * 41 / 2))

    def test_window_is_sized_by_what_it_keeps(self):
        for kept in (evaluate.window_kept, evaluate.window_pairs):
            for keep in (0.05, 0.2, 0.5):
                self.assertAlmostEqual(kept(1024, evaluate.window_for(1024, keep, kept)), keep, delta=0.003)


class Judge(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.tokens = torch.randint(1, 300, (4 * 32 + 5,)).numpy()
        self.decoder = model.Decoder(support.tiny(gate=gates.GateConfig(8)), gate_bias=0.0)

    def test_perplexity_is_that_of_the_windows(self):
        found = evaluate.perplexity(evaluate.Judge(self.decoder, "dense"), self.tokens, 32, batch_size=3)
        total = 0.0
        for at in range(0, 133, 32):
            row = torch.from_numpy(self.tokens[at:at + 32])[None]
            with torch.no_grad():
                logits, _ = self.decoder(row)
            total -= logits.log_softmax(-1)[0, :-1].gather(1, row[0, 1:, None]).sum().item()
        self.assertEqual((found["tokens"], found["kept"], found["kept_pairs"]), (4 * 31 + 4, 1.0, 1.0))
        self.assertAlmostEqual(found["nll"], total / (4 * 31 + 4), places=5)
        self.assertAlmostEqual(found["perplexity"], math.exp(found["nll"]))

    def test_strength_orders_what_is_kept(self):
        found = [evaluate.perplexity(evaluate.Judge(self.decoder, "gate", tau=tau), self.tokens[:128], 32)
                 for tau in (-math.inf, -0.5, 0.5, math.inf)]
        kept = [one["kept"] for one in found]
        self.assertEqual(kept[0], 1.0)
        self.assertEqual(kept, sorted(kept, reverse=True))
        self.assertAlmostEqual(kept[3], sum(1 / n for n in range(1, 33)) / 32, places=5)
        self.assertAlmostEqual(found[3]["kept_pairs"], 2 / 33, places=5)

    def test_a_window_of_everything_is_dense(self):
        dense = evaluate.perplexity(evaluate.Judge(self.decoder, "dense"), self.tokens, 32)
        window = evaluate.perplexity(evaluate.Judge(self.decoder, "window", recent=32), self.tokens, 32)
        self.assertAlmostEqual(dense["nll"], window["nll"], places=6)

    def test_recall_counts_exact_answers(self):
        vocab = bpe.train(["He went out. It rained. "], 290)
        prose = numpy.array(vocab.encode("He went out. It rained. " * 100))

        class Oracle(evaluate.Judge):
            """Predicts every next token."""

            def __call__(self, tokens):
                ahead = torch.cat([tokens[:, 1:], tokens[:, :1]], 1)
                half = torch.arange(1, tokens.shape[1] + 1).expand_as(tokens) / 2
                return torch.nn.functional.one_hot(ahead, 300) * 50.0, half[None]

        perfect = evaluate.recall_accuracy(Oracle(self.decoder, "dense"), vocab, prose, 400, 6)
        self.assertEqual((perfect["accuracy"], perfect["kept"]), (1.0, 0.5))
        self.assertEqual(perfect["questions"], sum(part["questions"] for part in perfect["by_distance"]))
        config = support.tiny(context=400)
        ignorant = evaluate.recall_accuracy(evaluate.Judge(model.Decoder(config), "dense"), vocab, prose, 400, 6)
        self.assertLess(ignorant["accuracy"], 0.2)

    def test_refuses_what_it_cannot_do(self):
        with self.assertRaisesRegex(ValueError, "expected a model with gates"):
            evaluate.Judge(model.Decoder(support.tiny()), "gate")
        with self.assertRaisesRegex(ValueError, "mode window: expected at least one recent key, found None"):
            evaluate.Judge(self.decoder, "window")
        with self.assertRaisesRegex(ValueError, "mode: expected one of dense, gate, window, found 'odd'"):
            evaluate.Judge(self.decoder, "odd")
        with self.assertRaisesRegex(ValueError, "expected at least one window of 32, found 20 tokens"):
            evaluate.perplexity(evaluate.Judge(self.decoder, "dense"), self.tokens[:20], 32, windows=1)


if __name__ == "__main__":
    unittest.main()
