# SPDX-License-Identifier: MIT
"""Puts the trainer on the path; without torch every test module that imports this is skipped, and says so."""

import os
import sys
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
PROGRAM = os.path.join(ROOT, "trainer")
sys.path.insert(0, PROGRAM)

try:
    import torch
except ImportError as error:
    print(f"skipped: {error}", file=sys.stderr)
    raise unittest.SkipTest(str(error)) from None

torch.set_num_threads(1)    # so small a model gains nothing from more, and on shared cores loses much


def golden(name):
    """Folder of a golden fixture: below $PITH_GOLDEN, else tests/golden; the test is skipped where it is absent."""
    folder = os.path.join(os.environ.get("PITH_GOLDEN", os.path.join(ROOT, "tests", "golden")), name)
    if not os.path.isfile(os.path.join(folder, "expected.json")):
        raise unittest.SkipTest(f"{folder} is absent")
    return folder


def tiny(family="llama", gate=None, tied=True, context=64):
    """`model.Config` of a model that runs in a millisecond."""
    import model
    kv_heads = 4 if family == "gpt2" else 2
    return model.Config(family, 300, 32, 2, 4, kv_heads, 8, 64, context, tied=tied, gate=gate)
