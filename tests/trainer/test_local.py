# SPDX-License-Identifier: MIT
import contextlib
import io
import os
import tempfile
import unittest
from unittest import mock

import support

import numpy
import torch

import batches
import checkpoint
import data
import distil
import evaluate
import frozen
import gates
import local
import model
import strengths
import tokenizer as bpe
import trainer

LENGTH = 48


class Supply:
    """A prepared folder and a small model with fixed attention patterns, in one temporary folder."""

    def __init__(self, case, family="llama"):
        folder = tempfile.TemporaryDirectory()
        case.addCleanup(folder.cleanup)
        self.root, self.data, self.model = folder.name, os.path.join(folder.name, "data"), os.path.join(folder.name, "base")
        text = os.path.join(self.root, "book.txt")
        with open(text, "w", encoding="utf-8") as file:
            file.write("The miller went to the mill. Nobody saw him come, and it rained.\n\n" * 200)
        data.prepare([text], [], self.data, 290, 1e6, 1.0)
        torch.manual_seed(3)
        decoder = model.Decoder(support.tiny(family))
        for block in decoder.blocks:                              # some attention is sharp, so some keys matter
            block.attention.wq.weight.data.mul_(20.0)
        checkpoint.save(decoder, self.model, os.path.join(self.data, "tokenizer.json"), torch.float32)

    def at(self, name):
        return os.path.join(self.root, name)

    def local(self, out, steps=12, scope="layer", **words):
        words = {"bias": 1.0, "objective": "attention", "price": 0.05, "length": LENGTH, "batch_size": 2, "rate": 1e-2,
                 "sharpness": (1.0, 4.0), "recall_share": 0.0, **words}
        with contextlib.redirect_stderr(io.StringIO()):
            return local.train(self.model, self.data, self.at(out), gate=gates.GateConfig(8, 0.0, 4, scope), steps=steps,
                               **words)

    def distil(self, out, sidecar, steps=12, **words):
        words = {"keeps": [0.4], "length": LENGTH, "batch_size": 2, "rate": 3e-3, "sharpness": 1.0,
                 "recall_share": 0.0, **words}
        with contextlib.redirect_stderr(io.StringIO()):
            return distil.train(self.model, self.data, self.at(out), sidecar=sidecar, steps=steps, **words)


def numbers(decoder):
    return torch.cat([weight.detach().flatten() for weight in decoder.gates().parameters()])


def interrupted(run, at):
    """Call run() with a supply that fails at batch `at`, then again with one that does not."""
    batch = batches.Batches.batch

    def failing(self, number, *rest):
        if number == at:
            raise KeyboardInterrupt
        return batch(self, number, *rest)

    with mock.patch.object(batches.Batches, "batch", failing), contextlib.suppress(KeyboardInterrupt):
        run()
    return run()


class Objectives(unittest.TestCase):
    def test_attention_wants_what_will_be_read_for_more_than_its_price(self):
        torch.manual_seed(0)
        q, k = (torch.randn(2, 3, 10, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
        b = torch.tensor([0.2, -0.1, 0.5], dtype=torch.float64, requires_grad=True)
        peak = torch.rand(2, 3, 10, 10, dtype=torch.float64).tril()
        future = frozen.still_to_come(peak.transpose(2, 3)).transpose(2, 3)
        causal, price = torch.ones(10, 10).tril().bool(), 0.4
        for spared in ((1, 0), (4, 0), (4, 2), (1, 5), (12, 4)):
            low = gates.running_minimum(q @ k.transpose(2, 3) + b[:, None, None], *spared)
            judged = gates.judged(10, *spared)
            soft = torch.sigmoid(1.5 * low)
            expected = price * soft[:, :, causal].mean()
            if judged.any():
                expected = expected + (future * (1 - soft))[:, :, judged].mean()
            for block in (1, 3, 64):
                with mock.patch.object(frozen, "KEY_BLOCK", block):
                    loss, kept = local.AttentionLoss.apply(q, k, b, peak, price, 1.5, *spared)
                torch.testing.assert_close(loss, expected)
                torch.testing.assert_close(kept, soft[:, :, causal].mean())
                for found, truth in zip(*(torch.autograd.grad(2 * value, (q, k, b), retain_graph=True, allow_unused=True)
                                          for value in (loss, expected))):
                    torch.testing.assert_close(found, truth)

    def test_output_costs_nothing_where_nothing_is_dropped(self):
        supply = Supply(self)
        decoder = checkpoint.load(supply.model, gate_config=gates.GateConfig(4, 0.0, 4), gate_bias=50.0).freeze()
        tokens = torch.randint(0, 290, (1, LENGTH))
        words = {"objective": "output", "price": 0.25, "sharpness": 1.0, "generator": None}
        _, losses, kept = local.layer_gradients(decoder, tokens, **words)
        for loss, fraction in zip(losses, kept):
            self.assertAlmostEqual(loss, 0.25, places=5)
            self.assertAlmostEqual(fraction, 1.0, places=5)
        for block in decoder.blocks:
            block.attention.gate.b.data.fill_(-50.0)
        _, losses, kept = local.layer_gradients(decoder, tokens, **words)
        self.assertGreater(min(losses), 0.01)
        self.assertLess(max(kept), 0.25)


class Local(unittest.TestCase):
    def test_learns_what_can_be_forgotten(self):
        """Better than keeping everything and than forgetting everything."""
        for objective, price in (("attention", 0.6), ("output", 0.5)):
            supply = Supply(self)
            decoder = supply.local("run", steps=60, objective=objective, price=price, rate=2e-2, bf16=False)
            tokens = torch.from_numpy(data.open_tokens(os.path.join(supply.data, "train.bin"))[:LENGTH].astype("int64"))

            def loss():
                _, losses, _ = local.layer_gradients(decoder, tokens[None], objective=objective, price=price, sharpness=4.0,
                                                     generator=torch.Generator().manual_seed(0))
                return sum(losses)

            learned, plain = loss(), []
            for bias in (50.0, -50.0):
                for gate in decoder.gates():
                    gate.b.data.fill_(bias)
                plain.append(loss())
            with self.subTest(objective):
                self.assertLess(learned, 0.93 * min(plain))

    def test_an_interrupted_run_ends_where_a_whole_one_does(self):
        for scope in gates.SCOPES:
            supply = Supply(self)
            whole = supply.local("whole", scope=scope)
            parts = interrupted(lambda: supply.local("parts", scope=scope), at=5)
            torch.testing.assert_close(numbers(parts), numbers(whole), rtol=0, atol=0)
            beside = checkpoint.load(supply.model, os.path.join(supply.at("parts"), checkpoint.GATES_FILE))
            torch.testing.assert_close(numbers(beside), numbers(parts), rtol=0, atol=0)

    def test_workers_do_not_change_the_result(self):
        supply = Supply(self)
        alone, team = supply.local("alone"), supply.local("team", workers=2)
        torch.testing.assert_close(numbers(team), numbers(alone), rtol=1e-4, atol=1e-5)

    def test_leaves_the_model_alone_and_its_state_small(self):
        supply = Supply(self, "gpt2")
        before, after = checkpoint.load(supply.model).state_dict(), supply.local("run", bf16=False).state_dict()
        self.assertTrue(all(torch.equal(weight, after[name]) for name, weight in before.items()))
        state = torch.load(os.path.join(supply.at("run"), trainer.STATE))
        self.assertEqual(sum(weight.numel() for weight in state["model"].values()), 2 * (2 * 8 * 32 + 1))

    def test_goes_on_from_gates_of_layers_for_their_heads(self):
        """Where nothing is learned, the gates of all kv-heads of a layer drop what its one gate did."""
        supply = Supply(self)
        start = supply.local("layer", steps=20)
        start.config.gate.threshold = 0.5
        sidecar = supply.at("layer.safetensors")
        checkpoint.save_sidecar(start, sidecar, torch.float32)
        heads = supply.local("heads", steps=0, scope="kv_head", sidecar=sidecar)
        x = torch.randn(1, LENGTH, start.config.d_model)
        for layer, own in zip(start.gates(), heads.gates()):
            self.assertEqual(own.heads, start.config.n_kv_heads)
            torch.testing.assert_close(own(x), (layer(x) - 0.5).expand(-1, own.heads, -1, -1), rtol=1e-5, atol=1e-5)
        with self.assertRaisesRegex(ValueError, "expected 1 a layer, or one, of dim 8, found 2 of dim 8"):
            checkpoint.save_sidecar(heads, sidecar, torch.float32)
            supply.local("back", steps=0, sidecar=sidecar)

    def test_refuses_an_unknown_objective(self):
        with self.assertRaisesRegex(ValueError, "objective: expected one of attention, output, found 'both'"):
            Supply(self).local("run", objective="both")


class Distil(unittest.TestCase):
    def setUp(self):
        self.supply = Supply(self)
        self.sidecar = self.supply.at("gates.safetensors")
        checkpoint.save_sidecar(self.supply.local("local", steps=30), self.sidecar, torch.float32)

    def kept(self, decoder, tau=0.0):
        tokens = torch.from_numpy(data.open_tokens(os.path.join(self.supply.data, "train.bin"))[:LENGTH].astype("int64"))
        return evaluate.perplexity(evaluate.Judge(decoder, "gate", tau=tau), tokens, LENGTH)["kept_pairs"]

    def test_keeps_what_was_asked_for_and_strays_less(self):
        decoder = checkpoint.load(self.supply.model, self.sidecar)
        tokens = torch.from_numpy(data.open_tokens(os.path.join(self.supply.data, "train.bin"))[:4 * LENGTH].astype("int64"))
        rows, keep = tokens.view(4, LENGTH), 0.4
        head = decoder.head_weight().detach()

        def apart(decoder):
            """KL from the dense model where `keep` of the pairs is kept."""
            tau, = distil.taus_for(decoder, rows, [keep])
            with torch.no_grad():
                said, margins, _ = frozen.gated_hidden(decoder, rows, tau, 1.0)
                kept = [frozen.kept_pairs(margin, 1.0)[0] for margin in margins]
                self.assertAlmostEqual(sum(kept) / len(kept), keep, delta=0.08)
                return frozen.Divergence.apply(said, frozen.dense_hidden(decoder, rows), head).item()

        before = apart(decoder)
        trained = self.supply.distil("run", self.sidecar, steps=60, keeps=[keep], rate=1e-2, bf16=False)
        self.assertLess(apart(trained), 0.85 * before)
        self.assertAlmostEqual(self.kept(trained), keep, delta=0.12)

    def test_an_interrupted_run_ends_where_a_whole_one_does(self):
        run = lambda out: self.supply.distil(out, self.sidecar, keeps=[0.4, 0.6])
        whole, parts = run("whole"), interrupted(lambda: run("parts"), at=7)
        torch.testing.assert_close(numbers(parts), numbers(whole), rtol=0, atol=0)
        self.assertEqual(parts.config.gate.threshold, whole.config.gate.threshold)

    def test_price_is_the_exchange_of_nats_for_pairs(self):
        prices = distil.Strengths(torch.nn.Linear(1, 1), [0.0, 1.0])
        self.assertAlmostEqual(prices.price(0, 0.03, 0.1, 0.25, 0.25), 0.3, places=6)
        self.assertGreater(prices.price(0, 0.03, 0.1, 0.30, 0.25), 0.3)      # more was kept: pairs cost more
        self.assertLess(prices.price(0, 0.03, 0.1, 0.20, 0.25), 0.3)
        self.assertAlmostEqual(prices.price(1, 0.5, 0.1, 0.12, 0.12), 5.0, places=5)
        expected = (distil.AVERAGE * 0.5 + (1 - distil.AVERAGE) * 0.1) / 0.1
        self.assertAlmostEqual(prices.price(1, 0.1, 0.1, 0.12, 0.12), expected, places=5)

    def test_refuses_a_dense_model(self):
        with self.assertRaisesRegex(ValueError, "expected a model with gates to go on with, found a dense one"):
            self.supply.distil("run", None)

    def test_strengths_stand_beside_windows_of_their_size(self):
        decoder = checkpoint.load(self.supply.model, self.sidecar)
        tokens = numpy.array(data.open_tokens(os.path.join(self.supply.data, "train.bin")))
        rows = strengths.measure(decoder, {"book": tokens}, [0.7, 0.4], None, None, LENGTH, 3)
        self.assertEqual([row["mode"] for row in rows], ["dense", "gate", "window", "gate", "window"])
        for keep, gate, window in ((0.7, *rows[1:3]), (0.4, *rows[3:5])):
            self.assertAlmostEqual(gate["kept_pairs"], keep, delta=0.1)
            self.assertAlmostEqual(window["kept_pairs"], gate["kept_pairs"], delta=0.03)
        self.assertEqual(len(strengths.table(rows).splitlines()), 2 + 5)


if __name__ == "__main__":
    unittest.main()
