# SPDX-License-Identifier: MIT
import json
import math
import os
import unittest

import support

import numpy
import torch

import checkpoint
import gates
import model

FIXTURES = ("gpt2-dense", "gpt2-gated", "gpt2-recent", "llama-gated", "qwen2-gated-bf16")


class Golden(unittest.TestCase):
    """Logits and drops of the fixtures, which were made in double precision by another program."""

    def check(self, name):
        folder = support.golden(name)
        with open(os.path.join(folder, "expected.json"), encoding="utf-8") as file:
            expected = json.load(file)
        decoder = checkpoint.load(folder)
        visibility = model.Visibility(threshold=decoder.config.gate.threshold) if decoder.config.gate else model.DENSE
        with torch.no_grad():
            logits, gone = decoder(torch.tensor([expected["tokens"]]), visibility)
        wanted = numpy.fromfile(os.path.join(folder, "expected_logits.f32"), "<f4").reshape(logits.shape[1:])
        error = numpy.abs(logits[0].numpy() - wanted).max(1) / numpy.abs(wanted).max(1)
        self.assertLess(error.max(), 2e-4)
        for layer, gone_here in enumerate(gone):
            self.assertEqual(gates.drop_at(gone_here)[0, 0].tolist(), expected["drop_at"][layer])


for _name in FIXTURES:
    setattr(Golden, "test_" + _name.replace("-", "_"), lambda self, name=_name: self.check(name))


class Decoder(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.tokens = torch.randint(0, 300, (2, 40))

    def decoders(self, gate=None):
        for family in model.FAMILIES:
            yield family, model.Decoder(support.tiny(family, gate), gate_bias=0.2).eval()

    def test_sees_no_future(self):
        for family, decoder in self.decoders(gates.GateConfig(8)):
            changed = self.tokens.clone()
            changed[:, 30:] = (changed[:, 30:] + 1) % 300
            for visibility in (model.DENSE, model.Visibility(alpha=1.5), model.Visibility(threshold=0.0)):
                with torch.no_grad(), self.subTest(family):
                    a, b = decoder(self.tokens, visibility)[0], decoder(changed, visibility)[0]
                torch.testing.assert_close(a[:, :30], b[:, :30])

    def test_keeping_everything_is_dense(self):
        for family, decoder in self.decoders(gates.GateConfig(8)):
            with torch.no_grad(), self.subTest(family):
                dense, _ = decoder(self.tokens)
                kept, _ = decoder(self.tokens, model.Visibility(threshold=-math.inf))
            torch.testing.assert_close(dense, kept, rtol=0, atol=0)

    def test_query_blocks_do_not_matter(self):
        whole = model.QUERY_BLOCK
        for family, decoder in self.decoders(gates.GateConfig(8, recent=3)):
            with torch.no_grad(), self.subTest(family):
                one, _ = decoder(self.tokens, model.Visibility(threshold=0.0))
                model.QUERY_BLOCK = 7
                try:
                    many, _ = decoder(self.tokens, model.Visibility(threshold=0.0))
                finally:
                    model.QUERY_BLOCK = whole
            torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-6)

    def test_refuses_more_tokens_than_its_context(self):
        decoder = model.Decoder(support.tiny(context=16))
        with self.assertRaisesRegex(ValueError, "expected at most 16 tokens, found 40"):
            decoder(self.tokens)


if __name__ == "__main__":
    unittest.main()
