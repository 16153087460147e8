"""Write and read credentials with boto3 in the layout of credstash.

The layout is that of seal_aes_ctr_legacy and putSecret in credstash.py of
fugue/credstash. The data key has 64 bytes. The first half is for AES-256-CTR
with a counter that starts at 1. The second half is for the HMAC of the
ciphertext, which is stored in hexadecimal, as a binary.

The program reads one request as JSON from stdin and writes its response to
stdout.
"""

import base64
import hashlib
import hmac
import json
import os
import sys

import boto3
from boto3.dynamodb.conditions import Attr, Key
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

FIRST = bytes(15) + b"\x01"
kms = boto3.client("kms", region_name=os.environ["AWS_REGION"])
request = json.load(sys.stdin)
table = boto3.resource("dynamodb", region_name=os.environ["AWS_REGION"]).Table(request["table"])


def crypt(key, data):
    cipher = Cipher(algorithms.AES(key), modes.CTR(FIRST)).encryptor()
    return cipher.update(data) + cipher.finalize()


def seal(name, version, secret, context):
    out = kms.generate_data_key(KeyId=request["key"], NumberOfBytes=64, EncryptionContext=context or {})
    key, mac = out["Plaintext"][:32], out["Plaintext"][32:]
    contents = crypt(key, secret.encode())
    return {
        "name": name,
        "version": version,
        "key": base64.b64encode(out["CiphertextBlob"]).decode(),
        "contents": base64.b64encode(contents).decode(),
        "hmac": hmac.new(mac, contents, hashlib.sha256).hexdigest().encode(),
        "digest": "SHA256",
        "comment": "written by boto3",
    }


def decrypt(row, context):
    out = kms.decrypt(CiphertextBlob=base64.b64decode(row["key"]), EncryptionContext=context or {})
    key, mac = out["Plaintext"][:32], out["Plaintext"][32:]
    contents = base64.b64decode(row["contents"])
    stored = row["hmac"] if isinstance(row["hmac"], str) else bytes(row["hmac"]).decode()
    if not hmac.compare_digest(stored, hmac.new(mac, contents, hashlib.sha256).hexdigest()):
        raise ValueError("the HMAC does not match")
    return crypt(key, contents).decode()


def put(secrets):
    for one in secrets:
        table.put_item(Item=seal(**one), ConditionExpression=Attr("name").not_exists())
    return {}


def get(secrets):
    answers = {}
    for one in secrets:
        name = f"{one['name']} {one['version']}"
        try:
            rows = table.query(KeyConditionExpression=Key("name").eq(one["name"]) & Key("version").eq(one["version"]), ConsistentRead=True)
            same = decrypt(rows["Items"][0], one["context"]) == one["secret"]
            answers[name] = "" if same else "the plaintext differs from the stored one"
        except Exception as e:
            answers[name] = str(e) or repr(e)
    return answers


json.dump({"put": put, "get": get}[request["command"]](request["secrets"]), sys.stdout)
