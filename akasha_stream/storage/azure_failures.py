"""What Azure's errors mean."""

from __future__ import annotations

from akasha_stream.errors import (
    BucketNotFound,
    ObjectArchived,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from akasha_stream.storage.failures import PreconditionFailed, by_status, network_failure


class BlocksGone(StorageError):
    """Blocks of an upload were dropped by another's commit, or were committed already. Never leaves the package."""


# Codes whose HTTP status says something else, or too little.
# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
_BY_CODE: dict[str, type[StorageError]] = {
    "ContainerNotFound": BucketNotFound,
    "BlobAlreadyExists": PreconditionFailed,  # 409
    "BlobArchived": ObjectArchived,  # 409
    "BlobBeingRehydrated": ObjectArchived,  # 409
    "ContainerBeingDeleted": StorageUnavailable,  # 409
    "InvalidBlockList": BlocksGone,  # 400
    "AccountIsDisabled": StorageDenied,
    "InvalidAuthenticationInfo": StorageDenied,  # 400
    "AccountBeingCreated": StorageUnavailable,
    "AccountLimitExceeded": StorageFull,
}


def azure_failure(error: Exception, where: str) -> StorageError | None:
    from azure.core import exceptions as azure

    if isinstance(error, azure.HttpResponseError):
        said = str(error.message or "").split("\n", maxsplit=1)[0]
        code = str(getattr(error, "error_code", "") or "")
        if code in _BY_CODE:
            return _BY_CODE[code](f"{where}: {code}: {said}")
        if error.status_code is None or error.status_code < 400:  # a body that ended early, or can't be read
            return StorageUnavailable(f"{where}: {said}")
        headers = getattr(error.response, "headers", None)
        return by_status(error.status_code, f"{code}: {said}", where, headers)
    if isinstance(error, azure.AzureError):  # ServiceRequestError, ServiceResponseError: no whole answer
        return StorageUnavailable(f"{where}: {str(error) or type(error).__name__}")
    return network_failure(error, where)
