# SPDX-License-Identifier: MIT
import contextlib
import importlib.util
import io
import json
import os
import tempfile
import unittest

import support

import torch

import adapt
import checkpoint
import gates

_spec = importlib.util.spec_from_file_location("program", os.path.join(support.PROGRAM, "__main__.py"))
program = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(program)


class Losses(unittest.TestCase):
    def test_pressure_comes_slowly(self):
        self.assertEqual([adapt.keep_at(p, 1.0, 0.1) for p in (0.0, adapt.KEEP_FALL, 1.0)], [1.0, 0.1, 0.1])
        self.assertAlmostEqual(adapt.keep_at(adapt.KEEP_FALL / 2, 1.0, 0.2), 0.6)
        self.assertEqual(adapt.keep_at(0.0, 0.2, 0.2), 0.2)

    def test_alpha_follows_the_cosine(self):
        self.assertEqual([adapt.alpha_at(p, 1.0, 8.0) for p in (-1, 0, 0.5, 1, 2)], [1.0, 1.0, 4.5, 8.0, 8.0])

    def test_sparsity_presses_only_above_what_is_to_be_kept(self):
        masks = [torch.zeros(1, 6, 6), torch.zeros(1, 6, 6).masked_fill(gates.judged(6, 1), -50.0)]
        alone = sum(1 / n for n in range(1, 7)) / 6                # each query sees itself
        loss, kept = adapt.sparsity_loss(masks, 0.0)
        self.assertAlmostEqual(loss.item(), (1.0 + alone) / 2, places=6)
        self.assertAlmostEqual(kept[0].item(), 1.0)
        self.assertAlmostEqual(kept[1].item(), alone, places=6)
        self.assertEqual(adapt.sparsity_loss(masks, 0.8)[0].item(), 0.0)

    def test_distillation_is_zero_for_the_teacher_alone(self):
        a, b = torch.randn(2, 5, 9), torch.randn(2, 5, 9)
        self.assertAlmostEqual(adapt.distillation_loss(a, a).item(), 0.0, places=6)
        self.assertGreater(adapt.distillation_loss(a, b).item(), 0.1)


class Program(unittest.TestCase):
    """Every command in order, on a text of a few kilobytes."""

    def call(self, *arguments):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            program.main(list(map(str, arguments)))
        return out.getvalue()

    def test_from_texts_to_an_exported_model(self):
        with tempfile.TemporaryDirectory() as root:
            at = lambda *names: os.path.join(root, *names)
            with open(at("book.txt"), "w", encoding="utf-8") as file:
                file.write("The miller went to the mill. Nobody saw him come, and it rained.\n\n" * 300)
            prepared = json.loads(self.call("prepare", at("book.txt"), "--heldout", at("book.txt"), "--out", at("data"),
                                            "--vocabulary", 400))
            self.assertGreater(prepared["train"]["tokens"], 2000)
            common = ("--data", at("data"), "--rate", 1e-2)
            self.call("pretrain", *common, "--out", at("base"), "--steps", 12, "--width", 32, "--layers", 2, "--heads", 4,
                      "--batch", 256, "--stages", "32@0", "64@0.5")
            dense = json.loads(self.call("evaluate", "--model", at("base", "model"), "--text", at("data", "heldout.txt"),
                                         "--length", 64, "--windows", 8, "--recall", 2))
            self.assertEqual((dense["mode"], dense["kept"]), ("dense", 1.0))
            for train in adapt.TRAINED:
                self.call("gates", *common, "--model", at("base", "model"), "--out", at(train), "--train", train,
                          "--steps", 10, "--dim", 8, "--recent", 4, "--length", 64, "--batch", 2, "--bias", 1)
                with open(at(train, "log.jsonl"), encoding="utf-8") as file:
                    self.assertEqual(json.loads(file.readlines()[-1])["step"], 10)
            self.call("gates", *common, "--model", at("all", "model"), "--out", at("steps"), "--train", "all", "--go-on",
                      "--steps", 40, "--length", 64, "--batch", 1, "--step-phase", 1, "--step-taus", "dense", "1e9")
            with open(at("steps", "log.jsonl"), encoding="utf-8") as file:
                self.assertLess(json.loads(file.readline())["kept"], 0.3)    # of the twentieth step, a strong one
            before, after = (checkpoint.load(at(name, "model")).state_dict() for name in ("base", "gates"))
            self.assertTrue(all(torch.equal(tensor, after[name]) for name, tensor in before.items()))
            control = checkpoint.load(at("dense", "model"))
            self.assertIsNone(control.config.gate)
            self.assertFalse(torch.equal(control.state_dict()["embed.weight"], before["embed.weight"]))

            frozen = ("--model", at("base", "model"), "--data", at("data"), "--rate", 1e-2, "--steps", 4, "--length", 64)
            self.call("local", *frozen, "--out", at("local"), "--dim", 4, "--bias", 1, "--scope", "kv_head", "--f32")
            self.call("distil", *frozen, "--out", at("distil"), "--gates", at("local", "gates.safetensors"), "--keep", 0.5, 0.3,
                      "--workers", 1)
            table = self.call("strengths", "--model", at("base", "model"), "--gates", at("distil", "gates.safetensors"),
                              "--text", at("data", "heldout.txt"), "--tokens", at("data", "heldout.bin"), "--calibrate",
                              at("data", "train.bin"), "--length", 64, "--windows", 3, "--keep", 0.6)
            self.assertEqual(len(table.splitlines()), 2 + 2 * 3)

            self.call("export", "--model", at("gates", "model"), "--out", at("out"), "--without-gates")
            self.call("export", "--model", at("gates", "model"), "--out", at("out", "gates.safetensors"))
            evaluate = ("evaluate", "--model", at("out"), "--tokens", at("data", "heldout.bin"), "--length", 64)
            gated = json.loads(self.call(*evaluate))
            direct = json.loads(self.call("evaluate", "--model", at("gates", "model"), "--tokens",
                                          at("data", "heldout.bin"), "--length", 64))
            self.assertEqual(gated["mode"], "gate")
            self.assertAlmostEqual(gated["nll"], direct["nll"], delta=0.01)
            self.call("export", "--model", at("gates", "model"), "--out", at("other.safetensors"), "--tau=5")
            other, same = (json.loads(self.call(*evaluate, *words)) for words in
                           (("--gates", at("other.safetensors")), ("--tau=5",)))
            self.assertEqual((other["nll"], other["kept"]), (same["nll"], same["kept"]))
            self.assertLess(other["kept"], gated["kept"])
            everything = json.loads(self.call(*evaluate, "--tau=-1e9"))
            self.assertEqual(everything["kept"], 1.0)
            window = json.loads(self.call(*evaluate, "--mode", "window", "--keep", 0.3))
            self.assertAlmostEqual(window["kept"], 0.3, delta=0.05)
            compared = self.call("compare", "--model", at("out"), "--tokens", at("data", "heldout.bin"), "--out", at("table"),
                                 "--length", 64, "--windows", 4, "--recall", 2, "--taus", 0.1, "--text",
                                 at("data", "heldout.txt"), "--frozen", at("gates", "model"), "--control",
                                 at("dense", "model"))
            self.assertEqual(len(compared.splitlines()), 2 + 3 + 1 + 4 + 3)
            self.assertIn("trained: gates", compared)
            self.assertIn("frozen: gates", compared)
            with self.assertRaisesRegex(SystemExit, "trainer agree: .*expected a model with gates or --gates, found neither"):
                self.call("agree", "--model", at("base", "model"), "--text", at("data", "heldout.txt"), "--pith", "pith")
            with self.assertRaisesRegex(SystemExit, "trainer evaluate: .*no-such.config.json"):
                self.call("evaluate", "--model", at("no-such"), "--tokens", at("data", "heldout.bin"))


if __name__ == "__main__":
    unittest.main()
