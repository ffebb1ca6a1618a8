# SPDX-License-Identifier: MIT
"""What tests share: the shipped model, and a real one where PITH_MODELS names a folder that has it."""

import os
import pathlib

import pytest

import pith

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKWORM = ROOT / "examples/models/bookworm-1m"
# Nothing twice: keys of the same token at two places are alike but for rounding, and order then hangs on that.
TEXT = (
    "The old house stood at the end of the lane, and nobody had lived in it since the war. On Tuesday, however, a young "
    "man called Adam Finch came from Lisbon with two heavy boxes, paid the agent a year's rent in silver, and asked "
    "which window looked upon the sea. His uncle had left him a letter: 'When you read these words, go to Ruth Lamb; "
    "her number is 417.' It rained for nine days. Nothing could be seen but grey water, broken fences, some sheep. Then, "
    "quite early one morning, somebody knocked."
)


@pytest.fixture(scope="session")
def model():
    return pith.Model(BOOKWORM, threads=1)


@pytest.fixture(scope="session")
def ids(model):
    return model.tokenizer.encode(TEXT)


@pytest.fixture(scope="session")
def smollm2():
    path = pathlib.Path(os.environ.get("PITH_MODELS", "")) / "smollm2-135m-instruct.q4_1.gguf"
    if not os.environ.get("PITH_MODELS") or not path.exists():
        pytest.skip(f"needs {path.name} in the folder that PITH_MODELS names")
    return pith.Model(path)
