"""Azure Blob Storage, through azure-storage-blob; a bucket is a container there."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SecretStr

from akasha_stream.errors import ObjectNotFound, SettingsError, StorageError, StorageUnavailable, UsageError
from akasha_stream.storage.adapter import LifecycleRule, ObjectInfo, RestoreState
from akasha_stream.storage.azure_failures import BlocksGone, azure_failure
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.failures import PreconditionFailed
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.provider import Piece, Span, Write
from akasha_stream.storage.retry import RetryPolicy

if TYPE_CHECKING:
    from azure.storage.blob import BlobProperties, StandardBlobTier

_WRITE_ID = "akasha_write_id"  # metadata names must be C# identifiers
_PAGE = 1000
_ARCHIVE = "Archive"
_CONNECT_TIMEOUT_S = 5
_NO_LIFECYCLE = (
    "Azure takes lifecycle rules through the account's management plane alone, which storage credentials don't reach: "
    "use `az storage account management-policy create`, or let the workers' tier policy move the segments"
)


class AzureStorageAdapter(GuardedAdapter[Any]):
    """Either `connection_string`, or `account_url` with `account_key` (an account key or a SAS token); with
    `account_url` alone, the package azure-identity finds the credentials.
    """

    provider: ClassVar[str] = "azure"
    lifecycle_supported: ClassVar[bool] = False
    tier_classes: ClassVar[Mapping[str, str]] = {"hot": "Hot", "warm": "Cool", "cold": _ARCHIVE}
    classes: ClassVar[frozenset[str]] = frozenset({"Hot", "Cool", "Cold", _ARCHIVE})

    def __init__(
        self,
        bucket_name: str,
        account_url: str | None = None,
        storage_class: str | None = None,
        tier: str = "hot",
        *,
        connection_string: SecretStr | None = None,
        account_key: SecretStr | None = None,
        retry: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        super().__init__(bucket_name, storage_class, tier, retry or RetryPolicy(), breaker)
        if (account_url is None) == (connection_string is None):
            raise SettingsError("Azure needs either a connection_string or an account_url")
        self.account_url = account_url
        self._connection_string = connection_string
        self._account_key = account_key

    async def _open(self) -> Any:
        try:
            from azure.storage.blob.aio import BlobServiceClient
        except ImportError as error:
            raise SettingsError("Azure needs the extra azure: pip install 'akasha-stream[azure]'") from error
        how: dict[str, Any] = {
            "retry_total": 0,  # retry.py is the one policy
            "connection_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": self._retry.attempt_s,
        }
        try:
            if self._connection_string is not None:
                return BlobServiceClient.from_connection_string(self._connection_string.get_secret_value(), **how)
            if self._account_key is not None:
                key = self._account_key.get_secret_value()
                return BlobServiceClient(str(self.account_url), credential=key, **how)
        except ValueError:  # never with its text: it may hold the secret
            raise SettingsError("Azure's connection_string, account_url or account_key has the wrong form") from None
        try:
            from azure.identity.aio import DefaultAzureCredential
        except ImportError as error:
            raise SettingsError(
                "Azure needs credentials: an account_key, a connection_string, or the package azure-identity"
            ) from error
        return BlobServiceClient(str(self.account_url), credential=DefaultAzureCredential(), **how)

    async def _close(self, client: Any) -> None:
        await client.close()

    def _failure(self, error: Exception, where: str) -> StorageError | None:
        return azure_failure(error, where)

    async def _has_bucket(self, client: Any, bucket: str) -> bool:
        found: bool = await client.get_container_client(bucket).exists()
        return found

    async def _put(self, client: Any, bucket: str, path: str, data: bytes, write: Write) -> None:
        await client.get_blob_client(bucket, path).upload_blob(
            data,
            overwrite=not write.if_absent,  # False sends If-None-Match: *
            metadata={_WRITE_ID: write.id},
            standard_blob_tier=_tier(self.storage_class),
        )

    async def _put_parts(self, bucket: str, path: str, parts: AsyncGenerator[tuple[bytes, bool]], write: Write) -> None:
        """Blocks that are not committed are invisible, can't be removed, and are dropped after a week.

        All writers of a path share its uncommitted blocks, and a commit drops those it doesn't name: so a block's
        name carries the id of its write, and another's commit between ours makes ours fail.
        """
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        where = self._where(bucket, path)
        blocks: list[BlobBlock] = []
        async for part, _ in parts:
            name = base64.b64encode(f"{write.id}{len(blocks):06d}".encode()).decode()
            await self._ask(
                "upload_part",
                where,
                lambda c, part=part, name=name: c.get_blob_client(bucket, path).stage_block(name, part),  # type: ignore[misc]
            )
            blocks.append(BlobBlock(name))
        condition = {"match_condition": MatchConditions.IfMissing} if write.if_absent else {}
        try:
            await self._ask(
                "complete_upload",
                where,
                lambda c: c.get_blob_client(bucket, path).commit_block_list(
                    blocks, metadata={_WRITE_ID: write.id}, standard_blob_tier=_tier(self.storage_class), **condition
                ),
            )
        except BlocksGone as error:
            mark = await self._write_id(bucket, path)
            if mark == write.id:
                return
            if mark is not None and write.if_absent:
                raise PreconditionFailed(str(error)) from error
            raise StorageUnavailable(f"{where}: another upload of this path came between") from error

    async def _write_id(self, bucket: str, path: str) -> str | None:
        try:
            found = await self._ask("stat", self._where(bucket, path), lambda c: self._properties(c, bucket, path))
        except ObjectNotFound:
            return None
        mark: str | None = found.metadata.get(_WRITE_ID)
        return mark

    async def _properties(self, client: Any, bucket: str, path: str) -> BlobProperties:
        found: BlobProperties = await client.get_blob_client(bucket, path).get_blob_properties()
        return found

    async def _get(self, client: Any, bucket: str, path: str, span: Span) -> Piece:
        from azure.core import MatchConditions

        pinned: dict[str, Any] = {}
        if span.etag is not None:
            pinned = {"etag": f'"{span.etag}"', "match_condition": MatchConditions.IfNotModified}
        stream = await client.get_blob_client(bucket, path).download_blob(span.start, span.length, **pinned)
        data = await stream.readall()
        found = stream.properties
        # The library overwrites `size` with that of the range.
        return Piece(data, int(str(found.content_range).rsplit("/", 1)[1]), _bare(found.etag))

    async def _delete(self, client: Any, bucket: str, path: str) -> None:
        await client.get_blob_client(bucket, path).delete_blob(delete_snapshots="include")

    async def _stat(self, client: Any, bucket: str, path: str) -> ObjectInfo:
        return _info(path, await self._properties(client, bucket, path))

    async def _change_class(self, client: Any, bucket: str, path: str, storage_class: str) -> None:
        await client.get_blob_client(bucket, path).set_standard_blob_tier(_tier(storage_class))

    async def _restore(self, client: Any, bucket: str, path: str, days: int) -> None:
        await client.get_blob_client(bucket, path).set_standard_blob_tier(_tier("Hot"), rehydrate_priority="Standard")

    async def _restore_state(self, client: Any, bucket: str, path: str) -> RestoreState:
        found = await self._properties(client, bucket, path)
        if str(found.blob_tier) != _ARCHIVE:
            return RestoreState("available")
        # "rehydrate-pending-to-hot"; the tier stays Archive until it is done.
        return RestoreState("restoring" if found.archive_status else "archived")

    async def _ensure(self, client: Any, bucket: str) -> None:
        from azure.core.exceptions import ResourceExistsError

        try:
            await client.create_container(bucket)
        except ResourceExistsError as error:
            if (
                getattr(error, "error_code", None) != "ContainerAlreadyExists"
            ):  # ContainerBeingDeleted has the same class
                raise

    async def _apply_lifecycle(self, client: Any, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        raise UsageError(_NO_LIFECYCLE)

    async def _lifecycle(self, client: Any, bucket: str) -> Sequence[LifecycleRule]:
        raise UsageError(_NO_LIFECYCLE)

    async def _page(
        self, client: Any, bucket: str, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        found = client.get_container_client(bucket).list_blobs(name_starts_with=prefix or None, results_per_page=_PAGE)
        pages = found.by_page(token)
        page = await anext(pages)
        infos = [_info(each.name, each) async for each in page]
        return infos, pages.continuation_token or None


def _tier(storage_class: str) -> StandardBlobTier:
    from azure.storage.blob import StandardBlobTier

    return StandardBlobTier(storage_class)


def _info(path: str, found: BlobProperties) -> ObjectInfo:
    return ObjectInfo(
        path=path,
        size=found.size,
        etag=_bare(found.etag),
        modified=found.last_modified,
        storage_class=str(found.blob_tier),
    )


def _bare(etag: str | None) -> str:
    """A listing gives it without quotes, a HEAD with them."""
    return (etag or "").strip('"')
