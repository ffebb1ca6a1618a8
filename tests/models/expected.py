# SPDX-License-Identifier: MIT
"""What transformers computes in float64, as models_real_test reads it.

    {"every": 512, "texts": [{"tokens": [...], "greedy": [...], "rows": [{"token": 7, "largest": 21.5, "logits": [...]}]}]}

Of a few tokens of each text, every so many-th logit and the largest magnitude of all; of each text what the model goes on with.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "golden"))
from make import InDouble  # noqa: E402

EVERY = 512
ROWS = 6     # of a text, its last token's among them
GREEDY = 32  # tokens that the model goes on with


def weights_of(reader, arch, kind, config, as_hugging_face):
    """name -> f32 of a GGUF; as_hugging_face(name, values): what Hugging Face's files have in their place."""
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    with torch.device("meta"):
        model = kind(config)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    out = {}
    for name, _ in model.named_parameters():
        tensor = tensors.pop(names.get_name(name, try_suffixes=(".weight",)))
        values = as_hugging_face(name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        out[name] = torch.from_numpy(np.array(values, np.float32))
    assert not tensors, sorted(tensors)
    return out


def model_of(kind, config, weights):
    """Made whole where it is called, so that what it computes when it is made is as exact; the head is the embedding."""
    model = kind(config)
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model


def write(path, make_model, texts):
    """For each of `texts`, lists of tokens; yields what the model goes on with."""
    expected = []
    with InDouble(), torch.no_grad():
        model = make_model().double().eval()
        model.config._attn_implementation = "eager"
        for tokens in texts:
            out = model(torch.tensor([tokens]), use_cache=True)
            rows = []
            for token in range(len(tokens) - 1, 0, -max(1, len(tokens) // ROWS)):
                logits = out.logits[0, token]
                rows.append({"token": token, "largest": float(logits.abs().max()),
                             "logits": [float(f"{value:.9g}") for value in logits[::EVERY].tolist()]})
            greedy = []
            while len(greedy) < GREEDY:
                greedy.append(int(out.logits[0, -1].argmax()))
                out = model(torch.tensor([[greedy[-1]]]), past_key_values=out.past_key_values, use_cache=True)
            expected.append({"tokens": tokens, "greedy": greedy, "rows": rows[:ROWS]})
            yield greedy
    path.write_text(json.dumps({"every": EVERY, "texts": expected}) + "\n")
