# SPDX-License-Identifier: MIT
import math
import unittest

import support

import torch

import entmax
import gates


def logits(length=12, batch=2, seed=0):
    return torch.randn(batch, length, length, generator=torch.Generator().manual_seed(seed)) + 0.5


class SoftMask(unittest.TestCase):
    def test_is_the_log_of_the_cumulative_product(self):
        for recent in (1, 4):
            s, alpha = logits(), 1.5
            mask = gates.soft_mask(s, alpha, recent)
            p = entmax.solve(s.double(), alpha)
            for n in range(12):
                for j in range(12):
                    expected = sum(math.log(max(p[0, i, j].item(), gates.TINY)) for i in range(j + recent, n + 1))
                    self.assertAlmostEqual(mask[0, n, j].item(), expected, delta=1e-3)

    def test_spares_the_diagonal_the_future_the_recent_and_the_sinks(self):
        mask = gates.soft_mask(logits() - 100.0, 2.0, 3, 2)
        spared = ~gates.judged(12, 3, 2)
        self.assertEqual(int((~spared).sum()), sum(max(0, n - 3 - 2 + 1) for n in range(12)))
        self.assertTrue((mask[:, spared] == 0).all())
        self.assertTrue((mask[:, ~spared] < 0).all())

    def test_becomes_the_step_mask(self):
        s = logits(seed=3)
        s = torch.where(s.abs() < 0.1, s.sign() * 0.1, s)    # clear of the steep part
        soft = gates.soft_mask(s, 12.0, 1).exp()
        hard = ~gates.dropped(s, 0.0, 1)
        torch.testing.assert_close(soft, hard.float(), rtol=0, atol=1e-6)

    def test_gradient_reaches_the_logits_and_is_finite(self):
        s = logits().requires_grad_()
        gates.soft_mask(s, 3.0, 1).exp().sum().backward()
        self.assertTrue(torch.isfinite(s.grad).all())
        self.assertTrue((s.grad[:, ~gates.judged(12, 1)] == 0).all())
        self.assertGreater(s.grad.abs().max().item(), 0)


class StepMask(unittest.TestCase):
    def test_drops_for_good_at_the_first_judge_that_says_no(self):
        for recent, sinks in ((1, 0), (2, 3), (5, 1)):
            for tau in (0.0, 0.7):
                s = logits(seed=recent)
                found = gates.drop_at(gates.dropped(s, tau, recent, sinks))
                for j in range(12):
                    against = [n for n in range(j + recent, 12) if j >= sinks and s[0, n, j] - tau <= 0]
                    self.assertEqual(found[0, j].item(), against[0] if against else -1)

    def test_zero_is_a_no(self):
        gone = gates.dropped(torch.zeros(1, 3, 3), 0.0, 1)
        self.assertEqual(gates.drop_at(gone).tolist(), [[1, 2, -1]])

    def test_running_minimum_is_the_rule_before_its_step(self):
        for recent in (1, 3):
            s = logits(seed=7)
            low = gates.running_minimum(s, recent)
            for tau in (-0.5, 0.0, 0.9):
                self.assertTrue(((low - tau <= 0) == gates.dropped(s, tau, recent)).all())
            self.assertTrue(torch.isinf(low[:, ~gates.judged(12, recent)]).all())
            self.assertEqual(low[1, 9, 2].item(), s[1, 2 + recent:10, 2].min().item())

    def test_running_minimum_teaches_the_judge_that_said_least(self):
        s = logits().requires_grad_()
        gates.running_minimum(s, 2)[0, 11, 4].backward()
        judge = 6 + int(s.detach()[0, 6:12, 4].argmin())
        self.assertEqual(s.grad.nonzero().tolist(), [[0, judge, 4]])

    def test_extreme_strengths(self):
        s = logits()
        self.assertFalse(gates.dropped(s, -math.inf, 1).any())
        self.assertTrue((gates.dropped(s, math.inf, 1) == gates.judged(12, 1)).all())

    def test_kept_fraction_counts_the_query_itself(self):
        s = torch.full((1, 4, 4), -1.0)
        kept = gates.kept_fraction(gates.dropped(s, 0.0, 1))
        self.assertEqual(gates.visible(gates.dropped(s, 0.0, 2)).tolist(), [[1, 2, 2, 2]])
        self.assertAlmostEqual(kept.item(), (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
        self.assertEqual(gates.kept_fraction(gates.dropped(-s, 0.0, 1)).item(), 1.0)

    def test_soft_kept_fraction_is_that_of_the_step_mask_where_it_is_one(self):
        self.assertEqual(gates.soft_kept_fraction(torch.zeros(2, 5, 5)).tolist(), [1.0, 1.0])
        gone = gates.dropped(logits(), 0.3, 2)
        mask = torch.zeros(gone.shape).masked_fill(gone, -math.inf)
        torch.testing.assert_close(gates.soft_kept_fraction(mask), gates.kept_fraction(gone))

    def test_soft_kept_fraction_counts_by_the_cumulative_product(self):
        mask = torch.zeros(1, 2, 2).masked_fill(gates.judged(2, 1), math.log(0.25))
        self.assertAlmostEqual(gates.soft_kept_fraction(mask).item(), (1.0 + 1.25 / 2) / 2, places=6)


class Gate(unittest.TestCase):
    def test_logits_follow_the_formula(self):
        gate, x = gates.DropGate(16, 4, bias=0.3), torch.randn(1, 5, 16)
        s = gate(x)
        n, j = 4, 1
        expected = (gate.wq(x[0, n]) @ gate.wk(x[0, j])) / 2.0 + 0.3
        self.assertAlmostEqual(s[0, 0, n, j].item(), expected.item(), places=5)

    def test_a_kv_head_has_a_gate_of_its_own(self):
        gate, x = gates.DropGate(16, 4, bias=0.3, heads=3), torch.randn(2, 5, 16)
        gate.b.data = torch.tensor([0.1, 0.2, 0.3])
        s = gate(x)
        self.assertEqual(s.shape, (2, 3, 5, 5))
        q, k = gate.wq(x)[1, 4, 8:12], gate.wk(x)[1, 2, 8:12]
        self.assertAlmostEqual(s[1, 2, 4, 2].item(), (q @ k).item() / 2.0 + 0.3, places=5)

    def test_config_survives_json(self):
        for scope in gates.SCOPES:
            config = gates.GateConfig(24, 0.5, 16, scope)
            self.assertEqual(gates.GateConfig.from_json(config.to_json(), "here"), config)
        self.assertNotIn("scope", gates.GateConfig(24).to_json())

    def test_config_refuses_what_it_cannot_run(self):
        with self.assertRaisesRegex(ValueError, "here: drop_gate.type: expected \"interaction\", found 'mlp'"):
            gates.GateConfig.from_json({"type": "mlp", "dim": 4}, "here")
        with self.assertRaisesRegex(ValueError, "here: drop_gate.scope: expected layer or kv_head, found 'head'"):
            gates.GateConfig.from_json({"dim": 4, "scope": "head"}, "here")
        with self.assertRaisesRegex(ValueError, "propagate_in_depth"):
            gates.GateConfig.from_json({"dim": 4, "propagate_in_depth": True}, "here")


if __name__ == "__main__":
    unittest.main()
