# SPDX-License-Identifier: MIT
"""The list of what a program is made of says what the loader says: materials.py PROGRAM LIST"""
import hashlib
import json
import os
import re
import subprocess
import sys

program, listed = sys.argv[1:]
with open(listed) as file:
    document = json.load(file)
packages = {package["name"]: package for package in document["packages"]}
problems = []


def expect(holds, otherwise):
    if not holds:
        problems.append(otherwise)


expect(document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0", "it is no SPDX 2.3")
expect(document["creationInfo"]["created"] and document["documentNamespace"], "it says neither when nor what it is")
ids = [package["SPDXID"] for package in document["packages"]]
expect(len(ids) == len(set(ids)) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one) for one in ids), f"ids: {ids}")
for package in document["packages"]:
    for field in ("versionInfo", "downloadLocation", "licenseDeclared", "licenseConcluded", "copyrightText"):
        expect(package.get(field), f"{package['name']} has no {field}")
related = {one["relatedSpdxElement"] for one in document["relationships"]}
expect(related == set(ids), f"relationships: of {sorted(set(ids) ^ related)}")

with open(program, "rb") as file:
    digest = hashlib.sha256(file.read()).hexdigest()
expect(packages["pith"]["checksums"][0]["checksumValue"] == digest, "it is of another program")

loaded = set()
for line in subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout.splitlines():
    if found := re.search(r"(/\S+)", line):
        loaded.add(os.path.basename(os.path.realpath(found[1])))
there = {p["packageFileName"] for p in document["packages"] if p["name"] != "pith" and "packageFileName" in p}
expect(loaded == there, f"the loader brings {sorted(loaded)}, listed are {sorted(there)}")
for name in ("PCRE2", "utf8proc", "nlohmann_json", "CLI11"):
    expect(re.fullmatch(r"\d+(\.\d+)+", packages.get(name, {}).get("versionInfo", "")), f"{name}: no version")

print(f"{len(packages)} packages")
sys.exit("\n".join(problems) or 0)
