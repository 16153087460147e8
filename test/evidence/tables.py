"""Reads the tables of an evidence pack with Python's csv, and the bill of materials, and compares
them with report.json. The pack was written with --watch. It validates report.json by its schema if
the module jsonschema is installed:

    python3 tables.py PACK SCHEMA.json
"""
import csv
import json
import pathlib
import sys

pack = pathlib.Path(sys.argv[1])
report = json.loads((pack / "report.json").read_text(encoding="utf-8"))


def table(name):
    with open(pack / f"{name}.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    if any(None in row or None in row.values() for row in rows):
        sys.exit(f"{name}.csv has rows with another number of cells than its head")
    return rows


def compare(what, got, want):
    if got != want:
        sys.exit(f"{what}: the table has {got}, report.json {want}")


inventory = table("inventory")
compare("rows of inventory", len(inventory), len(report["inventory"]))
for column, member in (("slots_before", "before"), ("slots_after", "after")):
    compare(column, sum(int(row[column] or 0) for row in inventory),
            sum(row[member] or 0 for row in report["inventory"]))
compare("passes", len(table("passes")), len(report["passes"]))
rows = len(table("exceptions"))
if not len(report["exceptions"]["listed"]) <= rows <= report["exceptions"]["total"]:
    sys.exit(f"exceptions: the table has {rows} rows, report.json {report['exceptions']['total']}")
compare("copies", len(table("copies")), len(report["copies"] or []))
uses = report["key_use"]
keys = table("keys")
compare("keys", [row["nist_state"] for row in keys], [use.get("nist_state", "") for use in uses])
compare("requests", [row["last_use_request_id"] for row in keys],
        [use["last_usage"].get("request_id", "") for use in uses])
compare("callers", len(table("callers")), sum(len(use["trail"]["callers"]) for use in uses))
bom = json.loads((pack / "cbom.json").read_text(encoding="utf-8"))
states = {c["cryptoProperties"]["relatedCryptoMaterialProperties"]["id"]:
          c["cryptoProperties"]["relatedCryptoMaterialProperties"].get("state")
          for c in bom["components"] if c["type"] == "cryptographic-asset"}
compare("keys in cbom.json", sorted(states),
        sorted({row["key_arn"] for row in inventory if row["key_arn"]}))
for use in uses:
    compare("state in cbom.json", states[use["key"]], use.get("nist_state"))
try:
    import jsonschema
except ModuleNotFoundError:
    print("SKIPPED: python3 has no module jsonschema")
else:
    schema = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(report)
    print("report.json is valid by its schema")
print(f"{len(inventory)} rows of inventory, {rows} exceptions")
