# SPDX-License-Identifier: MIT
"""The traces the report is tested with are traces: every line of standard input obeys the schema."""
import json
import pathlib
import sys

try:
    from jsonschema import Draft202012Validator
except ImportError:
    print("SKIPPED: the schema (no Python package jsonschema)", file=sys.stderr)
    sys.exit(0)

schema = json.loads((pathlib.Path(__file__).parent / "../../src/trace/pith-trace-1.schema.json").read_text())
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
count = 0
for line in sys.stdin:
    for error in validator.iter_errors(json.loads(line)):
        sys.exit(f"trace {count}: {list(error.path)[:4]}: {error.message[:200]}")
    count += 1
print(f"ok    {count} traces obey the schema")
