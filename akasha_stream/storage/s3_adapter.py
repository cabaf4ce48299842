"""Amazon S3 and what speaks its protocol (SeaweedFS, MinIO, R2), through aioboto3.

Needs, besides reading and writing objects: conditional writes (`If-None-Match: *` on PutObject and on
CompleteMultipartUpload), which AWS has had since 2024.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import SecretStr

from akasha_stream.errors import (
    ObjectNotFound,
    SettingsError,
    StorageError,
    StorageUnavailable,
)
from akasha_stream.storage import s3_lifecycle
from akasha_stream.storage.adapter import LifecycleRule, ObjectInfo, RestoreState
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.provider import Piece, Span, Write
from akasha_stream.storage.retry import RetryPolicy
from akasha_stream.storage.s3_failures import s3_failure
from akasha_stream.storage.s3_restore import ARCHIVE_CLASSES, restore_state_of

_WRITE_ID = "akasha-write-id"
_PAGE = 1000
_CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class S3Client:
    client: Any
    resources: AsyncExitStack


class S3StorageAdapter(GuardedAdapter[S3Client]):
    """Without credentials, boto's own chain finds them (environment, profile, instance role).

    `endpoint_url`: a server other than AWS; buckets are then addressed by path.
    """

    provider: ClassVar[str] = "s3"
    tier_classes: ClassVar[Mapping[str, str]] = {"hot": "STANDARD", "warm": "STANDARD_IA", "cold": "GLACIER"}
    classes: ClassVar[frozenset[str]] = ARCHIVE_CLASSES | {
        "STANDARD",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER_IR",
        "REDUCED_REDUNDANCY",
    }

    def __init__(
        self,
        bucket_name: str,
        region: str = "us-east-1",
        storage_class: str = "STANDARD",
        tier: str = "hot",
        *,
        endpoint_url: str | None = None,
        access_key_id: SecretStr | None = None,
        secret_access_key: SecretStr | None = None,
        session_token: SecretStr | None = None,
        retry: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        super().__init__(bucket_name, storage_class, tier, retry or RetryPolicy(), breaker)
        if (access_key_id is None) != (secret_access_key is None):
            raise SettingsError("S3 needs both access_key_id and secret_access_key, or neither")
        self.region = region
        self.endpoint_url = endpoint_url
        self._credentials = {
            "aws_access_key_id": access_key_id,
            "aws_secret_access_key": secret_access_key,
            "aws_session_token": session_token,
        }

    async def _open(self) -> S3Client:
        try:
            import aioboto3
            from aiobotocore.config import AioConfig
            from aiobotocore.session import get_session
        except ImportError as error:
            raise SettingsError("S3 needs the extra s3: pip install 'akasha-stream[s3]'") from error
        config = AioConfig(
            retries={"total_max_attempts": 1},  # retry.py is the one policy
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=self._retry.attempt_s,
            s3={"addressing_style": "path" if self.endpoint_url else "auto"},
            # Checksums in trailers are beyond many servers that are not AWS.
            request_checksum_calculation="when_required" if self.endpoint_url else "when_supported",
            response_checksum_validation="when_required" if self.endpoint_url else "when_supported",
        )
        secrets = {name: secret.get_secret_value() for name, secret in self._credentials.items() if secret is not None}
        resources = AsyncExitStack()
        core = get_session()
        core.register_component("data_loader", _service_models())
        session = aioboto3.Session(botocore_session=core, region_name=self.region, **secrets)
        try:
            client = await resources.enter_async_context(
                session.client("s3", endpoint_url=self.endpoint_url, config=config)
            )
        except ValueError as error:  # botocore's word for an endpoint that is no URL
            raise SettingsError(f"S3's endpoint_url: {error}") from error
        return S3Client(client, resources)

    async def _close(self, client: S3Client) -> None:
        await client.resources.aclose()

    def _failure(self, error: Exception, where: str) -> StorageError | None:
        return s3_failure(error, where)

    async def _has_bucket(self, client: S3Client, bucket: str) -> bool:
        await client.client.head_bucket(Bucket=bucket)
        return True

    def _created_as(self, write: Write) -> dict[str, object]:
        return {"StorageClass": self.storage_class, "Metadata": {_WRITE_ID: write.id}}

    async def _put(self, client: S3Client, bucket: str, path: str, data: bytes, write: Write) -> None:
        condition = {"IfNoneMatch": "*"} if write.if_absent else {}
        await client.client.put_object(Bucket=bucket, Key=path, Body=data, **self._created_as(write), **condition)

    async def _put_parts(self, bucket: str, path: str, parts: AsyncGenerator[tuple[bytes, bool]], write: Write) -> None:
        where, place = self._where(bucket, path), {"Bucket": bucket, "Key": path}
        created = await self._ask(
            "create_upload", where, lambda c: c.client.create_multipart_upload(**place, **self._created_as(write))
        )
        upload = {**place, "UploadId": created["UploadId"]}
        try:
            done: list[dict[str, object]] = []
            async for part, _ in parts:
                number = len(done) + 1
                answer = await self._ask(
                    "upload_part",
                    where,
                    lambda c, part=part, number=number: c.client.upload_part(**upload, PartNumber=number, Body=part),  # type: ignore[misc]
                )
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
            condition = {"IfNoneMatch": "*"} if write.if_absent else {}
            try:
                await self._ask(
                    "complete_upload",
                    where,
                    lambda c: c.client.complete_multipart_upload(
                        **upload, MultipartUpload={"Parts": done}, **condition
                    ),
                )
            except ObjectNotFound as error:  # NoSuchUpload: an earlier attempt of ours completed it, unheard
                if await self._write_id(bucket, path) != write.id:
                    raise StorageUnavailable(f"{where}: the upload is gone before it was completed") from error
        except BaseException:
            await self._abort(where, upload)
            raise

    async def _abort(self, where: str, upload: Mapping[str, object]) -> None:
        """Parts of an upload that is not completed are invisible, and cost money until they are removed.

        One that can't be aborted now is removed by the rule that apply_lifecycle() adds.
        """
        try:
            await self._ask("abort_upload", where, lambda c: c.client.abort_multipart_upload(**upload))
        except StorageError:
            pass

    async def _write_id(self, bucket: str, path: str) -> str | None:
        try:
            head = await self._ask(
                "stat", self._where(bucket, path), lambda c: c.client.head_object(Bucket=bucket, Key=path)
            )
        except ObjectNotFound:
            return None
        mark: str | None = head["Metadata"].get(_WRITE_ID)
        return mark

    async def _get(self, client: S3Client, bucket: str, path: str, span: Span) -> Piece:
        condition = {} if span.etag is None else {"IfMatch": f'"{span.etag}"'}
        answer = await client.client.get_object(Bucket=bucket, Key=path, Range=span.header, **condition)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        found = answer["ETag"].strip('"')
        if "ContentRange" not in answer:  # the whole, from a server that takes no notice of ranges
            return Piece(data[span.start :][: span.length], len(data), found)
        return Piece(data, int(answer["ContentRange"].rsplit("/", 1)[1]), found)

    async def _delete(self, client: S3Client, bucket: str, path: str) -> None:
        await client.client.delete_object(Bucket=bucket, Key=path)

    async def _stat(self, client: S3Client, bucket: str, path: str) -> ObjectInfo:
        head = await client.client.head_object(Bucket=bucket, Key=path)
        return _info(path, head["ContentLength"], head)

    async def _change_class(self, client: S3Client, bucket: str, path: str, storage_class: str) -> None:
        # One request up to 5 GB; segments are far smaller. AWS would take MetadataDirective=COPY too; SeaweedFS says
        # that such a copy changes nothing, and refuses it.
        head = await client.client.head_object(Bucket=bucket, Key=path)
        await client.client.copy_object(
            Bucket=bucket,
            Key=path,
            CopySource={"Bucket": bucket, "Key": path},
            CopySourceIfMatch=head["ETag"],
            StorageClass=storage_class,
            MetadataDirective="REPLACE",
            Metadata=head["Metadata"],
            ContentType=head["ContentType"],
        )

    async def _restore(self, client: S3Client, bucket: str, path: str, days: int) -> None:
        request = {"Days": days, "GlacierJobParameters": {"Tier": "Standard"}}
        await client.client.restore_object(Bucket=bucket, Key=path, RestoreRequest=request)

    async def _restore_state(self, client: S3Client, bucket: str, path: str) -> RestoreState:
        return restore_state_of(await client.client.head_object(Bucket=bucket, Key=path))

    async def _ensure(self, client: S3Client, bucket: str) -> None:
        # us-east-1 is the one region that must not be named.
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        try:
            await client.client.head_bucket(Bucket=bucket)
        except client.client.exceptions.ClientError as error:
            if not isinstance(s3_failure(error, self._where(bucket)), ObjectNotFound):
                raise
        else:
            return
        try:
            await client.client.create_bucket(Bucket=bucket, **({} if self.region == "us-east-1" else elsewhere))
        except client.client.exceptions.BucketAlreadyOwnedByYou:
            pass

    async def _apply_lifecycle(self, client: S3Client, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        await s3_lifecycle.apply(client.client, bucket, rules)

    async def _lifecycle(self, client: S3Client, bucket: str) -> Sequence[LifecycleRule]:
        return await s3_lifecycle.read(client.client, bucket)

    async def _page(
        self, client: S3Client, bucket: str, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        onward = {} if token is None else {"ContinuationToken": token}
        answer = await client.client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=_PAGE, **onward)
        infos = [_info(each["Key"], each["Size"], each) for each in answer.get("Contents", [])]
        return infos, answer["NextContinuationToken"] if answer.get("IsTruncated") else None


@cache
def _service_models() -> Any:
    """botocore's description of S3. Reading it costs 0.2 s; the clients of all tiers share it."""
    from botocore.loaders import create_loader

    return create_loader()


def _info(path: str, size: int, answer: Mapping[str, Any]) -> ObjectInfo:
    """From a HEAD or from an entry of a listing."""
    return ObjectInfo(
        path=path,
        size=size,
        etag=answer["ETag"].strip('"'),
        modified=answer["LastModified"],
        storage_class=answer.get("StorageClass") or "STANDARD",  # a HEAD leaves it out
    )
