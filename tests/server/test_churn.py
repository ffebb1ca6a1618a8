# SPDX-License-Identifier: MIT
"""A few seconds of churn.py."""
import unittest

from churn import churn


class Churn(unittest.TestCase):
    def test_nothing_is_left_of_clients_that_vanish(self):
        counts, metrics = churn(minutes=0.1, clients=24)
        for what in ("was answered", "left before the answer", "left amid the answer"):
            self.assertGreater(counts.get(what, 0), 0, counts)
        self.assertGreater(metrics["pith_requests_cancelled_total"], 0)
        self.assertGreater(metrics["pith_prefix_cache_hits_total"], 0)


if __name__ == "__main__":
    unittest.main()
