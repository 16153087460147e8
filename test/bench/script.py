"""The script that one writes first: boto3 with 32 threads.

usage: script.py dynamodb|s3|s3-metadata
"""
import base64
import json
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

THREADS = 32
SOURCE, DESTINATION = (
    "arn:aws:kms:us-east-1:111122223333:key/" + "-".join(d * n for n in (8, 4, 4, 4, 12)) for d in "12"
)
CONFIG = Config(max_pool_connections=THREADS, s3={"addressing_style": "path"})
kms, dynamodb, s3 = (boto3.client(name, config=CONFIG) for name in ("kms", "dynamodb", "s3"))


def move(blob, context):
    return kms.re_encrypt(
        CiphertextBlob=blob,
        SourceKeyId=SOURCE,
        DestinationKeyId=DESTINATION,
        SourceEncryptionContext=context,
        DestinationEncryptionContext=context,
    )["CiphertextBlob"]


def move_item(item):
    old = item["secret"]["B"]
    new = move(old, {"tenant": item["tenant"]["S"], "purpose": "pii"})
    dynamodb.update_item(
        TableName="bench",
        Key={"id": item["id"]},
        UpdateExpression="SET secret = :n0",
        ConditionExpression="secret = :o0",
        ExpressionAttributeValues={":n0": {"B": new}, ":o0": {"B": old}},
    )


def move_body(entry):
    found = s3.get_object(Bucket="bench", Key=entry["Key"])
    body = found["Body"].read()
    document = json.loads(body)
    old = document["secret"]
    context = {"tenant": document["tenant"], "purpose": "pii"}
    new = base64.b64encode(move(base64.b64decode(old), context))
    s3.put_object(
        Bucket="bench",
        Key=entry["Key"],
        Body=body.replace(old.encode(), new, 1),
        IfMatch=found["ETag"],
        ContentType=found["ContentType"],
        Metadata=found["Metadata"],
    )


def move_header(entry):
    found = s3.head_object(Bucket="bench", Key=entry["Key"])
    metadata = found["Metadata"]
    new = move(base64.b64decode(metadata["x-amz-key-v2"]), json.loads(metadata["x-amz-matdesc"]))
    s3.copy_object(
        Bucket="bench",
        Key=entry["Key"],
        CopySource={"Bucket": "bench", "Key": entry["Key"]},
        CopySourceIfMatch=found["ETag"],
        MetadataDirective="REPLACE",
        Metadata={**metadata, "x-amz-key-v2": base64.b64encode(new).decode()},
        ContentType=found["ContentType"],
    )


def main(store):
    if store == "dynamodb":
        pages, name, work = dynamodb.get_paginator("scan").paginate(TableName="bench"), "Items", move_item
    else:
        pages, name = s3.get_paginator("list_objects_v2").paginate(Bucket="bench"), "Contents"
        work = move_body if store == "s3" else move_header
    with ThreadPoolExecutor(THREADS) as pool:
        under_way = deque()
        for page in pages:
            for one in page[name]:
                under_way.append(pool.submit(work, one))
                if len(under_way) > 10 * THREADS:
                    under_way.popleft().result()
        for future in under_way:
            future.result()


main(sys.argv[1])
