# Verifies the chain of hashes of an audit log: python3 chain.py < FILE.audit.jsonl
import hashlib, json, sys

lines, prev = 0, "0" * 64
for line in sys.stdin.buffer:
    body, _, end = line.rpartition(b',"hash":"')
    digest = hashlib.sha256(body + b"}").hexdigest()
    fields = json.loads(line)
    if (end != digest.encode() + b'"}\n' or fields["prev"] != prev
            or fields["seq"] != lines + 1):
        sys.exit(f"line {lines + 1} is damaged, or does not follow the line before")
    lines, prev = lines + 1, digest
if lines == 0:
    sys.exit("there are no lines")
print(f"{lines} lines, the hash of the last one is {prev}")
