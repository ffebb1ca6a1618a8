# SPDX-License-Identifier: MIT
"""What transformers computes in float64, as models_real_test reads it: expected.json and a file of logits for each text."""
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "golden"))
from make import InDouble  # noqa: E402

# Rows of logits that are kept, of a text's tokens: all of them would be a hundred megabytes.
KEPT = 16
GREEDY = 32  # tokens that the model goes on with


def model_of(kind, config, weights):
    """Made whole where it is called, so that what it computes when it is made is as exact; the head is the embedding."""
    model = kind(config)
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model


def write(folder, make_model, texts):
    """Into the directory `folder`, for each of `texts`, lists of tokens; yields what the model goes on with."""
    expected = []
    with InDouble(), torch.no_grad():
        model = make_model().double().eval()
        model.config._attn_implementation = "eager"
        for number, tokens in enumerate(texts):
            logits = model(torch.tensor([tokens])).logits[0]
            last, step = len(tokens) - 1, max(1, len(tokens) // KEPT)
            rows = [row for row in range(last % step, last + 1, step)][-KEPT:]
            logits[rows].numpy().astype("<f4").tofile(folder / f"logits-{number}.f32")
            out = model(torch.tensor([tokens]), use_cache=True, logits_to_keep=1)
            greedy = []
            while len(greedy) < GREEDY:
                greedy.append(int(out.logits[0, -1].argmax()))
                out = model(torch.tensor([[greedy[-1]]]), past_key_values=out.past_key_values, use_cache=True)
            expected.append({"tokens": tokens, "rows": rows, "greedy": greedy})
            yield greedy
    (folder / "expected.json").write_text(json.dumps(expected))
