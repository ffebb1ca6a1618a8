# SPDX-License-Identifier: MIT
"""The safetensors format: 8 bytes header length, a JSON header, the raw little-endian tensors."""

import json
import os
import struct

import torch

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100 << 20    # bytes


def read(path):
    """(name -> tensor, metadata: str -> str) of a file; every size is checked against the file's."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < 8:
        raise ValueError(f"{path}: expected a safetensors file, found {len(data)} bytes")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(LONGEST_HEADER, len(data) - 8):
        raise ValueError(f"{path}: expected a header of at most {len(data) - 8} bytes, found {length}")
    try:
        header = json.loads(data[8:8 + length])
    except ValueError as error:
        raise ValueError(f"{path}: expected a JSON header, found {error}") from None
    metadata = header.pop("__metadata__", {})
    body, tensors = memoryview(data)[8 + length:], {}
    for name, entry in header.items():
        tensors[name] = _tensor(path, name, entry, body)
    return tensors, metadata


def _tensor(path, name, entry, body):
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{path}: {name}: expected one of {sorted(DTYPES)}, found {entry['dtype']}")
    dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    expected = torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size()
    if not 0 <= begin <= end <= len(body) or end - begin != expected:
        raise ValueError(f"{path}: {name}: expected {expected} bytes within {len(body)}, found offsets {begin}..{end}")
    if expected == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(body[begin:end]), dtype=dtype).view(shape)


def write(path, tensors, metadata=None):
    """Write name -> tensor, sorted by name, the data aligned to 8 bytes; replaces `path` at once or not at all."""
    header, blobs, at = {}, [], 0
    if metadata:
        header["__metadata__"] = metadata
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        blob = tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path + ".new", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.writelines(blobs)
    os.replace(path + ".new", path)
