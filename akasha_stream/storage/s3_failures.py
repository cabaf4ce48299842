"""What S3's and botocore's errors mean."""

from __future__ import annotations

from akasha_stream.errors import (
    BucketNotFound,
    ObjectArchived,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
)
from akasha_stream.storage.failures import PreconditionFailed, by_status, network_failure

# Codes whose HTTP status says something else, or too little.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_BY_CODE: dict[str, type[StorageError]] = {
    "NoSuchBucket": BucketNotFound,
    "NoSuchKey": ObjectNotFound,
    "NoSuchUpload": ObjectNotFound,
    "PreconditionFailed": PreconditionFailed,
    "InvalidObjectState": ObjectArchived,
    "ConditionalRequestConflict": StorageUnavailable,  # 409: another write of the key is under way; ask again
    "OperationAborted": StorageUnavailable,  # 409, likewise, for buckets
    "RequestTimeout": StorageUnavailable,  # 400: the body didn't come in time
    "IncompleteBody": StorageUnavailable,  # 400: it was cut off
    "BadDigest": StorageUnavailable,  # 400: or changed
    "SlowDown": StorageUnavailable,
    "InvalidAccessKeyId": StorageDenied,
    "SignatureDoesNotMatch": StorageDenied,
    "ExpiredToken": StorageDenied,  # 400
    "InvalidToken": StorageDenied,  # 400
    "QuotaExceeded": StorageFull,
    "XMinioStorageFull": StorageFull,
}


def s3_failure(error: Exception, where: str) -> StorageError | None:
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        told = error.response.get("Error", {})
        code, said = told.get("Code", ""), f"{told.get('Code', '')}: {told.get('Message', '')}"
        if code in _BY_CODE:
            return _BY_CODE[code](f"{where}: {said}")
        answer = error.response.get("ResponseMetadata", {})
        return by_status(answer.get("HTTPStatusCode", 500), said, where, answer.get("HTTPHeaders"))
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return StorageDenied(f"{where}: {error}")
    if isinstance(
        error,
        boto.HTTPClientError
        | boto.ConnectionError
        | boto.IncompleteReadError
        | boto.ResponseStreamingError
        | boto.FlexibleChecksumError
        | boto.ChecksumError,
    ):
        return StorageUnavailable(f"{where}: {error}")
    if type(error).__name__ == "ResponseParserError":  # botocore.parsers: an answer cut off in its XML
        return StorageUnavailable(f"{where}: the answer can't be read: {error}")
    if isinstance(error, boto.BotoCoreError):
        return StorageRefused(f"{where}: {error}")
    return network_failure(error, where)
