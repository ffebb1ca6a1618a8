# SPDX-License-Identifier: MIT
"""policy_stubs.py MODULE_FOLDER FILE: the types of pith/policies.py, whose functions are made when it is imported."""

import inspect
import pathlib
import sys
import types


def stub(policies: types.ModuleType) -> str:
    parts = [
        "from collections.abc import Sequence\nfrom typing import Any, Protocol\n\nimport numpy as np\n\n"
        "from ._pith import Policy as Policy\nfrom ._pith import Rows as Rows\n"
    ]
    parts.append("class Scorer(Protocol):\n    def __call__(self, rows: Rows) -> np.ndarray: ...\n")
    for name in policies.__all__:
        function = getattr(policies, name)
        if not inspect.isfunction(function):
            continue
        # Annotations are texts; a signature would write them with quotation marks.
        signature = str(inspect.signature(function)).replace("'", "")
        for parameter in inspect.signature(function).parameters.values():
            if isinstance(parameter.default, str):
                signature = signature.replace(f"= {parameter.default}", f"= {parameter.default!r}")
        document = inspect.getdoc(function).replace("\n", "\n    ").replace("\n    \n", "\n\n")
        end = "\n    " if "\n" in document else ""
        parts.append(f'def {name}{signature}:\n    """{document}{end}"""\n')
    return "\n".join(parts)


def main() -> None:
    package = types.ModuleType("pith")
    package.__path__ = [str(pathlib.Path(__file__).with_name("pith")), sys.argv[1]]
    sys.modules["pith"] = package
    sys.dont_write_bytecode = True
    from pith import policies

    pathlib.Path(sys.argv[2]).write_text(stub(policies))


main()
