# SPDX-License-Identifier: MIT
"""What transformers computes of SmolLM2-135M-Instruct in float64: the logits of ten prompts and the text that it goes on with.

    python tests/models/smollm2.py $PITH_MODELS/smollm2-135m-instruct

models_real_test looks for what this writes, and for the quantised file of the same numbers, in the folder $PITH_MODELS.
"""
import sys
from pathlib import Path

import tokenizers
import transformers
from safetensors.torch import load_file

import expected

TEXTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived an old",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "The three laws of motion were first written down by Isaac Newton. The first of them says that",
    "<|im_start|>user\nName three colours of the rainbow.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "A list of groceries:\n1. bread\n2. milk\n3.",
    "He opened the letter slowly, read it twice, folded it again, and said nothing for a long while. When at last he spoke, it "
    "was only to ask",
    "In 1969 the first people walked on the Moon. Their names were",
]


def main(folder):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [tokenizer.encode(text).ids for text in TEXTS]
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for greedy in expected.write(folder, lambda: expected.model_of(transformers.LlamaForCausalLM, config, weights), texts):
        print(tokenizer.decode(greedy), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
