# SPDX-License-Identifier: MIT
import unittest

import support

import torch

import entmax

ALPHAS = (1.05, 1.3, 1.5, 2.0, 3.0, 5.0, 8.0)


class AlphaSigmoid(unittest.TestCase):
    s = torch.linspace(-3.0, 3.0, 4001, dtype=torch.float64)

    def test_solves_its_equation(self):
        for alpha in ALPHAS:
            inside = self.s[self.s.abs() < 1.0 / (alpha - 1.0)]
            p = entmax.solve(inside, alpha)
            left = p ** (alpha - 1.0) - (1.0 - p) ** (alpha - 1.0)
            torch.testing.assert_close(left, (alpha - 1.0) * inside, rtol=0, atol=1e-12)

    def test_nears_the_sigmoid_at_one(self):
        torch.testing.assert_close(entmax.solve(self.s, 1.0), torch.sigmoid(self.s), rtol=0, atol=0)
        torch.testing.assert_close(entmax.solve(self.s, 1.00001), torch.sigmoid(self.s), rtol=0, atol=5e-6)

    def test_is_the_ramp_at_two(self):
        torch.testing.assert_close(entmax.solve(self.s, 2.0), ((1 + self.s) / 2).clamp(0, 1), rtol=0, atol=1e-12)

    def test_is_the_steeper_ramp_at_three(self):
        # p^2 - (1-p)^2 = 2p - 1 = 2s
        torch.testing.assert_close(entmax.solve(self.s, 3.0), (self.s + 0.5).clamp(0, 1), rtol=0, atol=1e-12)

    def test_reaches_zero_and_one_exactly(self):
        for alpha in ALPHAS:
            edge = torch.tensor([-1.0, 1.0], dtype=torch.float64) * (1.0 / (alpha - 1.0) + 1e-9)
            self.assertEqual(entmax.solve(edge, alpha).tolist(), [0.0, 1.0])
            self.assertEqual(entmax.alpha_sigmoid(edge.float() * 1.01, alpha).tolist(), [0.0, 1.0])

    def test_is_symmetric_and_rises(self):
        for alpha in ALPHAS:
            p = entmax.solve(self.s, alpha)
            torch.testing.assert_close(p + p.flip(0), torch.ones_like(p), rtol=0, atol=1e-12)
            self.assertTrue((p[1:] >= p[:-1]).all())

    def test_slope_equals_finite_differences(self):
        h = 1e-6
        for alpha in ALPHAS:
            inside = self.s[self.s.abs() < 0.95 / (alpha - 1.0)]
            difference = (entmax.solve(inside + h, alpha) - entmax.solve(inside - h, alpha)) / (2 * h)
            torch.testing.assert_close(entmax.slope(entmax.solve(inside, alpha), alpha), difference, rtol=1e-5, atol=1e-7)

    def test_table_agrees_with_the_solution(self):
        for alpha in (1.0, *ALPHAS, entmax.STEEPEST):
            s = self.s.float().requires_grad_()
            p = entmax.alpha_sigmoid(s, alpha)
            p.sum().backward()
            exact = entmax.solve(s.detach().double(), alpha)
            torch.testing.assert_close(p.detach().double(), exact, rtol=0, atol=1e-6)
            slope = entmax.slope(exact, alpha).clamp_min(entmax.LEAK)
            torch.testing.assert_close(s.grad.double(), slope, rtol=1e-4, atol=1e-4)

    def test_refuses_an_alpha_out_of_range(self):
        for alpha in (0.5, entmax.STEEPEST + 1):
            with self.assertRaisesRegex(ValueError, "alpha: expected 1 to 16"):
                entmax.alpha_sigmoid(self.s.float(), alpha)


if __name__ == "__main__":
    unittest.main()
