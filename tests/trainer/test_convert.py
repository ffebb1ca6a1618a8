# SPDX-License-Identifier: MIT
import dataclasses
import json
import os
import tempfile
import unittest

import support

import torch

import checkpoint
import convert
import gates
import model


class Convert(unittest.TestCase):
    """A made-up checkpoint: linear layers [out, in], as the public implementation writes them."""

    def setUp(self):
        torch.manual_seed(0)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path, self.out = os.path.join(folder.name, "last.pt"), os.path.join(folder.name, "out")
        self.decoder = model.Decoder(support.tiny("gpt2", gates.GateConfig(8)), gate_bias=0.2)
        for parameter in self.decoder.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
        wanted = checkpoint.layout(self.decoder.config) + checkpoint.gate_layout(self.decoder.config)
        stored = checkpoint.stored_tensors(self.decoder, wanted, torch.float32)
        self.state = {name: tensor.t() if convert.LINEAR.match(name.split(".", 1)[1]) else tensor
                      for name, tensor in stored.items()}
        for i in range(2):
            self.state[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
            self.state[f"transformer.h.{i}.attn.bias_int"] = torch.ones(1, 1, 64, 64).tril(-1)
        self.state["lm_head.weight"] = self.state["transformer.wte.weight"]

    def logits(self, decoder):
        with torch.no_grad():
            return decoder(torch.arange(30)[None], model.Visibility(threshold=0.0))[0]

    def convert(self, content):
        torch.save(content, self.path)
        return convert.convert(self.path, self.out, n_heads=4, dtype=torch.float32)

    def check(self, content):
        self.convert(content)
        again = checkpoint.load(self.out)
        self.assertEqual(again.config, dataclasses.replace(self.decoder.config, end=299))
        torch.testing.assert_close(self.logits(again), self.logits(self.decoder), rtol=0, atol=0)

    def test_bare_state_dict(self):
        self.check(self.state)

    def test_wrapped_and_prefixed(self):
        self.check({"model": {f"_orig_mod.{name}": tensor for name, tensor in self.state.items()}, "step": 3})

    def test_hugging_face_orientation(self):
        self.check({name: tensor.t() if convert.LINEAR.match(name.replace("transformer.", "")) else tensor
                    for name, tensor in self.state.items()})

    def test_dense_checkpoint(self):
        self.convert({name: tensor for name, tensor in self.state.items() if "int" not in name})
        self.assertIsNone(checkpoint.load(self.out).config.gate)

    def test_refuses_unknown_names(self):
        with self.assertRaisesRegex(ValueError, r"last.pt: h.0.attn.surprise: .* unknown name \(1 in all\)"):
            self.convert({**self.state, "transformer.h.0.attn.surprise": torch.zeros(2)})

    def test_refuses_missing_tensors(self):
        del self.state["transformer.h.1.attn.q_int.weight"]
        with self.assertRaisesRegex(ValueError, "transformer.h.1.attn.q_int.weight: expected a tensor, found none"):
            self.convert(self.state)

    def test_refuses_an_untied_head(self):
        with self.assertRaisesRegex(ValueError, "lm_head.weight: expected the embedding itself"):
            self.convert({**self.state, "lm_head.weight": torch.zeros(300, 32)})

    def test_refuses_gates_that_propagate_in_depth(self):
        with open(os.path.join(os.path.dirname(self.path), "config.json"), "w", encoding="utf-8") as file:
            json.dump({"propagate_in_depth": True}, file)
        with self.assertRaisesRegex(ValueError, "propagate_in_depth: expected false, found true"):
            self.convert(self.state)

    def test_runs_nothing_that_the_file_holds(self):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (os.path.join(os.path.dirname(self.out), "sprung"),)

        trap = Trap()
        trap.out = self.out
        with self.assertRaises(Exception):
            self.convert({"x": trap})
        self.assertFalse(os.path.exists(os.path.join(os.path.dirname(self.out), "sprung")))


if __name__ == "__main__":
    unittest.main()
