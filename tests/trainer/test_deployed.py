# SPDX-License-Identifier: MIT
"""The trainer's measures against those of the pith command: $PITH_TOOL, else build/release/bin/pith."""

import os
import tempfile
import unittest
from unittest import mock

import support

import numpy
import torch

import agree
import checkpoint
import compare
import deployed
import evaluate
import tokenizer as bpe

PITH = os.environ.get("PITH_TOOL") or os.path.join(support.ROOT, "build", "release", "bin", "pith")
MODEL = os.path.join(support.ROOT, "examples", "models", "bookworm-1m")
TEXT = os.path.join(MODEL, "README.md")
LENGTH = 200


class Seen(unittest.TestCase):
    def test_a_key_is_seen_until_the_query_that_dropped_it(self):
        self.assertEqual(deployed.seen([-1, 2, 3, -1]).tolist(), [1, 2, 2, 2])

    def test_heads_are_averaged(self):
        self.assertEqual(deployed.seen([[-1, 2, -1], [1, 2, -1]]).tolist(), [1, 1.5, 1.5])


class RowsFor(unittest.TestCase):
    def test_finds_the_fewest_rows_that_keep_enough(self):
        def judge_of(rows):
            return lambda tokens: (None, torch.arange(1, 41).clamp_max(rows).expand(2, 1, 40))

        for keep in (0.1, 0.35, 0.9):
            rows = compare.rows_for(judge_of, keep, torch.zeros(1, 40, dtype=torch.int64))
            kept = [numpy.minimum(numpy.arange(1, 41), n).sum() / 820 for n in (rows - 1, rows)]
            self.assertLess(kept[0], keep)
            self.assertGreaterEqual(kept[1], keep)


@unittest.skipUnless(os.path.isfile(PITH), f"{PITH} is absent")
class Program(unittest.TestCase):
    def setUp(self):
        with open(TEXT, encoding="utf-8") as file:
            self.ids = bpe.load(os.path.join(MODEL, checkpoint.TOKENIZER_FILE)).encode(file.read())

    def check(self, sidecar, tau=0.0, ids=None):
        path = sidecar and os.path.join(MODEL, sidecar)
        return agree.check(PITH, MODEL, path, tau, TEXT, ids or self.ids, LENGTH, str(sidecar))

    def test_perplexity_and_kept_fraction_agree_at_all_strengths(self):
        rows = [self.check(sidecar, tau) for sidecar in (None, "gates-light.safetensors", "gates-strong.safetensors")
                for tau in (0.0, 0.3)]
        self.assertTrue(all(row["agrees"] for row in rows), agree.table(rows))
        kept = [row["kept"] for row in rows]
        self.assertEqual(len(set(kept)), len(kept))
        self.assertLess(max(kept), 1.0)

    def test_another_text_does_not_agree(self):
        row = self.check(None, ids=self.ids[1:])
        self.assertFalse(row["agrees"])
        self.assertIn("DIFFERS", agree.table([row]))

    def test_every_drop_and_logit_is_that_of_a_full_forward_in_double_precision(self):
        for tau in (0.0, 0.3):
            row = agree.exactly(PITH, MODEL, os.path.join(MODEL, "gates-light.safetensors"), tau, self.ids[:LENGTH], "light")
            self.assertTrue(row["agrees"], agree.exact_table([row]))
            self.assertEqual(row["same"], row["keys"])
            self.assertGreater(row["dropped"], row["keys"] // 10)
            self.assertLess(row["logits_apart"], 1e-5)

    def test_other_drops_do_not_agree(self):
        with tempfile.TemporaryDirectory() as folder:
            decoder, path = checkpoint.load(MODEL), os.path.join(folder, "gates.safetensors")
            with torch.no_grad():
                decoder.blocks[1].attention.gate.b += 0.01
            checkpoint.save_sidecar(decoder, path, torch.float32)
            other = deployed.Deployed(PITH, MODEL, "gate", gates=path)
            with mock.patch.object(deployed, "Deployed", return_value=other):
                row = agree.exactly(PITH, MODEL, None, 0.0, self.ids[:LENGTH], "other")
        self.assertFalse(row["agrees"])
        self.assertLess(row["same"], row["keys"])
        self.assertIn("DIFFERS", agree.exact_table([row]))

    def test_streaming_is_the_window(self):
        decoder = checkpoint.load(MODEL)
        window = evaluate.perplexity(evaluate.Judge(decoder, "window", recent=28), self.ids, LENGTH, 3)
        judge = deployed.Deployed(PITH, MODEL, "streaming(sinks=4,recent=28)")
        streaming = evaluate.perplexity(judge, self.ids, LENGTH, 3)
        self.assertAlmostEqual(streaming["nll"], window["nll"], delta=1e-4)
        numpy.testing.assert_allclose(streaming["kept_per_layer"], window["kept_per_layer"], rtol=1e-6)

    def test_heavy_hitters_keep_as_many_as_they_may(self):
        judge = deployed.Deployed(PITH, MODEL, compare.POLICIES["h2o"](32), chunk=1)
        _, keys = judge(torch.tensor(self.ids[:100])[None])
        self.assertEqual(keys.shape, (5, 1, 100))
        self.assertTrue((keys[:, :, :33] == torch.arange(1, 34)).all())
        self.assertTrue((keys[:, :, 33:] == 33).all())    # the query itself, before the policy acts

    def test_a_failure_of_the_command_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(ValueError, "exit status 3: .*config.json"):
                deployed.Deployed(PITH, folder, "none")(torch.tensor(self.ids[:4])[None])


if __name__ == "__main__":
    unittest.main()
