# SPDX-License-Identifier: MIT
"""The package as it is installed: its types, its errors, what its module is linked with."""

import inspect
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import BOOKWORM, ROOT

import pith
from pith import _pith, policies

FOLDER = pathlib.Path(pith.__file__).parent


def test_the_version():
    assert f"VERSION {pith.__version__}" in (ROOT / "CMakeLists.txt").read_text()


def test_it_is_typed():
    assert (FOLDER / "py.typed").exists()
    stub = (FOLDER / "policies.pyi").read_text()
    compile(stub, "policies.pyi", "exec")
    for name in policies.__all__:
        assert f"def {name}(" in stub or not inspect.isfunction(getattr(policies, name))
    assert "def snapkv(*, rows: int = 2048, window: int = 32" in stub
    module = (FOLDER / "_pith.pyi").read_text()
    compile(module, "_pith.pyi", "exec")
    assert "class Session" in module


def test_the_module_stands_alone():
    """No path of the build is in it, and of the library it shows nothing but its door."""
    path = _pith.__file__
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic
    needed = {line.split("[")[1].split("]")[0].split(".so")[0] for line in dynamic.splitlines() if "(NEEDED)" in line}
    assert needed <= {
        "libpcre2-8", "libutf8proc", "libgomp", "libstdc++", "libm", "libgcc_s", "libc", "ld-linux-x86-64", "ld-linux-aarch64"
    }  # fmt: skip
    symbols = subprocess.run(["readelf", "--dyn-syms", "-W", path], capture_output=True, text=True, check=True).stdout
    exported = [line.split()[-1] for line in symbols.splitlines() if " GLOBAL DEFAULT " in line and " UND " not in line]
    assert "PyInit__pith" in exported
    assert not [name for name in exported if "4pith" in name]


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(pith.Error, match="nowhere") as error:
        pith.Model("nowhere")
    assert error.value.code == "file" and not isinstance(error.value, ValueError)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(3))
    with pytest.raises(pith.Error, match="broken.gguf") as error:
        pith.Model(tmp_path / "broken.gguf")
    assert error.value.code == "format"
    shutil.copy(BOOKWORM / "config.json", tmp_path)
    shutil.copy(BOOKWORM / "model.safetensors", tmp_path)
    model = pith.Model(tmp_path)
    with pytest.raises(pith.Error) as error:
        model.generate("It")
    assert error.value.code == "file"
    stream = model.generate([5, 6, 7], max_tokens=3)  # without a tokenizer there are tokens, but no text
    assert stream.text() == "" and len(stream.result.tokens) == 3


def test_models_and_tokenizers(model):
    assert model.config["architecture"] == "llama" and model.config["vocab_size"] > 0
    assert "bookworm" in repr(model)
    tokenizer = model.tokenizer
    text = "Grüße, 417 — e.g. \u4f60\u597d!"
    ids = tokenizer.encode(text, "plain")
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.piece(one) for one in ids).decode().strip() == text
    assert tokenizer.vocab_size <= model.config["vocab_size"]
    assert isinstance(model.ends, list)
    with pytest.raises(pith.ArgumentError, match="specials"):
        tokenizer.encode(text, "all")


def test_gates_of_a_file():
    light = pith.Model(BOOKWORM, gates=BOOKWORM / "gates-light.safetensors")
    strong = pith.Model(BOOKWORM, gates=BOOKWORM / "gates-strong.safetensors")
    text = "The old house stood at the end of the lane. " * 8
    assert light.trace(text).kept > strong.trace(text).kept


def test_readme_and_the_guide(tmp_path):
    """Python in README and docs/python.md is run as it stands there, but for the names of models."""
    for name in ("README.md", "docs/python.md"):
        page = (ROOT / name).read_text()
        blocks = [block.split("\n```", 1)[0] for block in page.split("```python\n")[1:]]
        assert blocks, name
        for block in blocks:
            if "import pith" not in block:
                continue
            block = block.replace('"smollm2-135m-instruct.q8_0.gguf"', repr(str(BOOKWORM)))
            if "model.chat(" in block:
                block = block.replace("model.chat(", f"model.chat(template=pith.ChatTemplate({TEMPLATE!r}), messages=")
            subprocess.run([sys.executable, "-c", block], check=True, timeout=120, capture_output=True, cwd=tmp_path)


TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
