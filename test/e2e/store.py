"""Stores ciphertexts as an application would, and later reads them all back.

    store.py seed ENDPOINT MANIFEST    make keys, a table, a bucket and ciphertexts
    store.py poison ENDPOINT MANIFEST  store one more, which nobody can read in the context of its item
    store.py check ENDPOINT MANIFEST   disable the old key, decrypt and compare all

It uses boto3 alone and shares no code with rotator, so that it can judge it.
"""

import base64
import concurrent.futures
import json
import secrets
import sys

import boto3

TABLE, BUCKET = "customers", "secrets"
PLAIN_ITEMS, NESTED_ITEMS, OBJECTS = 1600, 200, 300  # 1600 + 2 * 200 = 2000 slots in the table


class Store:
    def __init__(self, endpoint):
        options = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }
        self.kms = boto3.client("kms", **options)
        self.dynamodb = boto3.client("dynamodb", **options)
        self.s3 = boto3.client("s3", **options)

    def encrypt(self, key, plaintext, context):
        answer = self.kms.encrypt(KeyId=key, Plaintext=plaintext, EncryptionContext=context)
        return answer["CiphertextBlob"]

    def decrypt(self, blob, context):
        answer = self.kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)
        return answer["Plaintext"], answer["KeyId"]


def parallel(work, arguments):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(work, arguments))


def tenant(number):
    return f"tenant-{number % 7}"


def seed(store, manifest_path):
    keys = {}
    for name in ("old", "new"):
        meta = store.kms.create_key(Description=name)["KeyMetadata"]
        keys[name] = meta["Arn"]
        store.kms.create_alias(AliasName=f"alias/{name}", TargetKeyId=meta["KeyId"])
    store.dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    store.s3.create_bucket(Bucket=BUCKET)

    def put_plain(number):
        secret = secrets.token_hex(12)
        item = {
            "id": {"S": f"plain-{number:05d}"},
            "tenant": {"S": tenant(number)},
            "balance": {"N": str(number)},
            "ssn": {"B": store.encrypt(keys["old"], secret.encode(), {"tenant": tenant(number)})},
        }
        store.dynamodb.put_item(TableName=TABLE, Item=item)
        return [item["id"]["S"], {"secrets": [secret], "balance": str(number)}]

    def put_nested(number):
        plain = [secrets.token_hex(12) for _ in range(2)]
        context = {"tenant": tenant(number)}
        documents = [
            {"M": {"title": {"S": f"document {i}"}, "key": {"B": store.encrypt(keys["old"], p.encode(), context)}}}
            for i, p in enumerate(plain)
        ]
        item = {
            "id": {"S": f"nested-{number:05d}"},
            "tenant": {"S": tenant(number)},
            "balance": {"N": str(number)},
            "profile": {"M": {"docs": {"L": documents}}},
        }
        store.dynamodb.put_item(TableName=TABLE, Item=item)
        return [item["id"]["S"], {"secrets": plain, "balance": str(number)}]

    def put_object(number):
        secret = secrets.token_hex(12)
        key = f"prod/app-{number:05d}.enc"
        body = base64.b64encode(store.encrypt(keys["old"], secret.encode(), {"app": "pay"})) + b"\n"
        store.s3.put_object(
            Bucket=BUCKET,
            Key=key,
            Body=body,
            ContentType="text/x-secret",
            CacheControl="no-store",
            Metadata={"owner": f"team-{number % 5}"},
            Tagging=f"stage=prod&number={number}",
        )
        return [key, {"secret": secret, "owner": f"team-{number % 5}", "number": str(number)}]

    manifest = {
        "keys": keys,
        "plain": dict(parallel(put_plain, range(PLAIN_ITEMS))),
        "nested": dict(parallel(put_nested, range(NESTED_ITEMS))),
        "objects": dict(parallel(put_object, range(OBJECTS))),
    }
    with open(manifest_path, "w", encoding="utf-8") as out:
        json.dump(manifest, out)
    print(f"stored {PLAIN_ITEMS + 2 * NESTED_ITEMS} ciphertexts in {TABLE}, {OBJECTS} in {BUCKET}")


def poison(store, manifest_path):
    with open(manifest_path, encoding="utf-8") as source:
        old = json.load(source)["keys"]["old"]
    blob = store.encrypt(old, b"of another tenant", {"tenant": "another"})
    store.dynamodb.put_item(
        TableName=TABLE,
        Item={"id": {"S": "poison"}, "tenant": {"S": tenant(0)}, "ssn": {"B": blob}},
    )


def check(store, manifest_path):
    with open(manifest_path, encoding="utf-8") as source:
        manifest = json.load(source)
    new = manifest["keys"]["new"]
    store.kms.disable_key(KeyId=manifest["keys"]["old"].split("/")[-1])  # moto takes no ARN here
    faults = []

    def expect(what, got, want):
        if got != want:
            faults.append(f"{what}: got {got!r}, want {want!r}")

    def slot(what, blob, context, secret):
        plaintext, key = store.decrypt(blob, context)
        expect(f"{what} plaintext", plaintext.decode(), secret)
        expect(f"{what} key", key, new)

    def item(pair):
        name, want = pair
        got = store.dynamodb.get_item(TableName=TABLE, Key={"id": {"S": name}}, ConsistentRead=True)["Item"]
        context = {"tenant": got["tenant"]["S"]}
        expect(f"{name} balance", got["balance"], {"N": want["balance"]})
        if name.startswith("plain"):
            expect(f"{name} attributes", sorted(got), ["balance", "id", "ssn", "tenant"])
            slot(name, got["ssn"]["B"], context, want["secrets"][0])
            return
        documents = got["profile"]["M"]["docs"]["L"]
        expect(f"{name} documents", [d["M"]["title"]["S"] for d in documents], ["document 0", "document 1"])
        for i, secret in enumerate(want["secrets"]):
            slot(f"{name}[{i}]", documents[i]["M"]["key"]["B"], context, secret)

    def stored(pair):
        key, want = pair
        got = store.s3.get_object(Bucket=BUCKET, Key=key)
        body = got["Body"].read()
        expect(f"{key} line end", body[-1:], b"\n")
        slot(key, base64.b64decode(body, validate=False), {"app": "pay"}, want["secret"])
        expect(f"{key} content type", got["ContentType"], "text/x-secret")
        expect(f"{key} cache control", got["CacheControl"], "no-store")
        expect(f"{key} metadata", got["Metadata"], {"owner": want["owner"]})
        tags = store.s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
        expect(f"{key} tags", {t["Key"]: t["Value"] for t in tags}, {"stage": "prod", "number": want["number"]})

    parallel(item, [*manifest["plain"].items(), *manifest["nested"].items()])
    parallel(stored, manifest["objects"].items())
    for fault in faults[:20]:
        print(fault)
    total = PLAIN_ITEMS + 2 * NESTED_ITEMS + OBJECTS
    print(f"read back {total} ciphertexts with the old key disabled: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    command, endpoint, path = sys.argv[1:]
    sys.exit({"seed": seed, "poison": poison, "check": check}[command](Store(endpoint), path) or 0)
