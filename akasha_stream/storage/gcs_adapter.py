"""Google Cloud Storage, through gcloud-aio-storage.

Of that library the session, the token and the requests that fit are used. It has no upload in parts that stays in
bounded memory and no bucket requests, so these are made on its session, by
https://cloud.google.com/storage/docs/json_api/v1.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from pydantic import SecretStr

from akasha_stream.errors import (
    BucketNotFound,
    ObjectNotFound,
    SettingsError,
    StorageError,
    StorageUnavailable,
)
from akasha_stream.storage import gcs_lifecycle
from akasha_stream.storage.adapter import LifecycleRule, ObjectInfo, RestoreState
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.failures import PreconditionFailed, by_status, network_failure
from akasha_stream.storage.gcs_upload import ResumableUpload
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.provider import Piece, Span, Write
from akasha_stream.storage.retry import RetryPolicy

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_WRITE_ID = "akasha-write-id"
_PAGE = 1000
_FIELDS = "name,size,generation,updated,storageClass"
_API = "https://storage.googleapis.com"


class GCSStorageAdapter(GuardedAdapter[Any]):
    """`service_account`: the JSON key's text, or `service_file` its path; without either, the metadata server's
    or gcloud's default credentials.

    `endpoint_url`: an emulator's; then nothing is signed unless credentials are given too. `project`: where
    ensure_bucket() creates.
    """

    provider: ClassVar[str] = "gcs"
    tier_classes: ClassVar[Mapping[str, str]] = {"hot": "STANDARD", "warm": "NEARLINE", "cold": "ARCHIVE"}
    classes: ClassVar[frozenset[str]] = frozenset({"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"})

    def __init__(
        self,
        bucket_name: str,
        location: str = "US",
        storage_class: str | None = None,
        tier: str = "hot",
        *,
        project: str | None = None,
        endpoint_url: str | None = None,
        service_account: SecretStr | None = None,
        service_file: Path | None = None,
        retry: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        super().__init__(bucket_name, storage_class, tier, retry or RetryPolicy(), breaker)
        self.location = location
        self.project = project
        self.endpoint_url = endpoint_url
        self._root = (endpoint_url or _API).rstrip("/")
        self._service_account = service_account
        self._service_file = service_file

    async def _open(self) -> Any:
        try:
            import aiohttp
            from gcloud.aio.storage import Storage
        except ImportError as error:
            raise SettingsError("GCS needs the extra gcs: pip install 'akasha-stream[gcs]'") from error
        key = self._key()
        # An api_root alone would mean: an emulator, no token, and no check of TLS certificates.
        is_emulator = self.endpoint_url is not None and key is None
        session = aiohttp.ClientSession()
        # aiohttp repeats a PUT by itself when a connection that it kept ends: a part of an upload would come twice.
        session._retry_connection = False
        return Storage(service_file=key, api_root=self._root, api_is_dev=is_emulator, session=session)  # type: ignore[arg-type]

    def _key(self) -> io.StringIO | None:
        """The library takes a key that it can't read for none, and goes on with other credentials."""
        if self._service_account is None and self._service_file is None:
            return None
        try:
            if self._service_account is not None:
                text = self._service_account.get_secret_value()
            else:
                text = Path(str(self._service_file)).read_text()
            json.loads(text)
        except (ValueError, OSError) as error:  # never with its text: it may hold the key
            raise SettingsError(f"GCS's service account can't be read: {type(error).__name__}") from None
        return io.StringIO(text)

    async def _close(self, client: Any) -> None:
        await client.session.session.close()  # ours, so the library leaves it open

    def _failure(self, error: Exception, where: str) -> StorageError | None:
        import aiohttp

        if isinstance(error, aiohttp.ClientResponseError):
            return _refusal(error.status, error.message, where, error.headers)
        if isinstance(error, json.JSONDecodeError):
            return StorageUnavailable(f"{where}: the answer can't be read: {error}")
        return network_failure(error, where)

    async def _request(self, client: Any, method: str, url: str, **more: Any) -> ClientResponse:
        """On the library's session, with its token; a failed answer is raised with the store's own words."""
        headers = {**await client._headers(), **more.pop("headers", {})}
        answer: ClientResponse = await client.session.request(method, url, headers, **more)
        return answer

    def _object_url(self, bucket: str, path: str) -> str:
        return f"{self._root}/storage/v1/b/{bucket}/o/{quote(path, safe='')}"

    def _bucket_url(self, bucket: str) -> str:
        return f"{self._root}/storage/v1/b/{bucket}"

    async def _has_bucket(self, client: Any, bucket: str) -> bool:
        await client.get_bucket_metadata(bucket, params={"fields": "name"})
        return True

    def _created_as(self, write: Write) -> dict[str, object]:
        # The library lower-cases a key's first word, up to a hyphen: "storageClass" would be lost.
        return {"storage-class": self.storage_class, "metadata": {_WRITE_ID: write.id}}

    async def _put(self, client: Any, bucket: str, path: str, data: bytes, write: Write) -> None:
        await client.upload(
            bucket,
            path,
            data,
            content_type="application/octet-stream",
            parameters={"ifGenerationMatch": "0"} if write.if_absent else {},
            metadata=self._created_as(write),
            force_resumable_upload=False,
            timeout=self._retry.attempt_s,
        )

    async def _put_parts(self, bucket: str, path: str, parts: AsyncGenerator[tuple[bytes, bool]], write: Write) -> None:
        where = self._where(bucket, path)
        session = await self._ask("create_upload", where, lambda c: self._start(c, bucket, path, write))
        upload = ResumableUpload(self._request, session, where)
        try:
            async for part, is_last in parts:
                try:
                    await self._ask("upload_part", where, lambda c, p=part, last=is_last: upload.send(c, p, last))  # type: ignore[misc]
                except ObjectNotFound as error:  # no such session: an earlier attempt of ours ended it, unheard
                    if not is_last or await self._write_id(bucket, path) != write.id:
                        raise StorageUnavailable(f"{where}: the upload is gone before it was whole") from error
        except BaseException:
            try:
                await self._ask("abort_upload", where, upload.cancel)
            except StorageError:
                pass  # it expires after a week, and is invisible until then
            raise

    async def _start(self, client: Any, bucket: str, path: str, write: Write) -> str:
        params = {"uploadType": "resumable", "name": path}
        if write.if_absent:
            params["ifGenerationMatch"] = "0"
        body = {"name": path, "storageClass": self.storage_class, "metadata": {_WRITE_ID: write.id}}
        answer = await self._request(
            client,
            "POST",
            f"{self._root}/upload/storage/v1/b/{bucket}/o",
            params=params,
            headers={"X-Upload-Content-Type": "application/octet-stream"},
            json=body,
        )
        return answer.headers["Location"]

    async def _write_id(self, bucket: str, path: str) -> str | None:
        try:
            found = await self._ask("stat", self._where(bucket, path), lambda c: c.download_metadata(bucket, path))
        except ObjectNotFound:
            return None
        mark: str | None = found.get("metadata", {}).get(_WRITE_ID)
        return mark

    async def _get(self, client: Any, bucket: str, path: str, span: Span) -> Piece:
        params = {"alt": "media"} if span.etag is None else {"alt": "media", "ifGenerationMatch": span.etag}
        answer = await self._request(
            client, "GET", self._object_url(bucket, path), params=params, headers={"Range": span.header}
        )
        data = await answer.read()
        generation = answer.headers.get("x-goog-generation") or span.etag or ""
        if span.etag not in (None, generation):  # from a server that takes no notice of the condition
            raise PreconditionFailed(f"{self._where(bucket, path)}: it is another object now")
        if "Content-Range" not in answer.headers:
            return Piece(data[span.start :][: span.length], len(data), generation)
        return Piece(data, int(answer.headers["Content-Range"].rsplit("/", 1)[1]), generation)

    async def _delete(self, client: Any, bucket: str, path: str) -> None:
        await client.delete(bucket, path)

    async def _stat(self, client: Any, bucket: str, path: str) -> ObjectInfo:
        return _info(await client.download_metadata(bucket, path))

    async def _change_class(self, client: Any, bucket: str, path: str, storage_class: str) -> None:
        # A rewrite with a body takes all metadata from it, and none from the object.
        found = await client.download_metadata(bucket, path)
        await client.copy(
            bucket,
            path,
            bucket,
            params={"ifSourceGenerationMatch": found["generation"]},
            metadata={"storage-class": storage_class, "metadata": found.get("metadata", {})},
        )

    async def _restore(self, client: Any, bucket: str, path: str, days: int) -> None:
        """Nothing to do: every class of GCS is read at once."""

    async def _restore_state(self, client: Any, bucket: str, path: str) -> RestoreState:
        await self._stat(client, bucket, path)
        return RestoreState("available")

    async def _ensure(self, client: Any, bucket: str) -> None:
        url, where = self._bucket_url(bucket), self._where(bucket)
        answer = await self._request(client, "GET", url, auto_raise_for_status=False)
        said = await answer.text(errors="replace")
        if answer.status < 400:
            return
        if answer.status != 404:
            raise _refusal(answer.status, said, where, answer.headers)
        if self.project is None:
            raise SettingsError(f"{where} does not exist, and GCS needs a project to create a bucket in: set it")
        answer = await self._request(
            client,
            "POST",
            f"{self._root}/storage/v1/b",
            params={"project": self.project},
            json={"name": bucket, "location": self.location},
            auto_raise_for_status=False,
        )
        said = await answer.text(errors="replace")
        if answer.status == 409:  # somebody was quicker; whether it is ours shows with the first request
            return
        if answer.status >= 400:
            raise _refusal(answer.status, said, where, answer.headers)

    async def _apply_lifecycle(self, client: Any, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        found = await (await self._request(client, "GET", self._bucket_url(bucket))).json()
        wanted = gcs_lifecycle.merged(found.get("lifecycle", {}).get("rule", []), rules)
        answer = await self._request(client, "PATCH", self._bucket_url(bucket), json={"lifecycle": {"rule": wanted}})
        answer.release()

    async def _lifecycle(self, client: Any, bucket: str) -> Sequence[LifecycleRule]:
        found = await (await self._request(client, "GET", self._bucket_url(bucket))).json()
        return gcs_lifecycle.ours(found.get("lifecycle", {}).get("rule", []))

    async def _page(
        self, client: Any, bucket: str, prefix: str, token: str | None
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        params = {"prefix": prefix, "maxResults": str(_PAGE), "fields": f"nextPageToken,items({_FIELDS})"}
        if token is not None:
            params["pageToken"] = token
        answer = await client.list_objects(bucket, params=params)
        return [_info(each) for each in answer.get("items", [])], answer.get("nextPageToken") or None


def _refusal(status: int, said: str, where: str, headers: Mapping[str, str] | None) -> StorageError:
    if status == 404 and "bucket" in said and "does not exist" in said:
        return BucketNotFound(f"{where}: there is no such bucket")
    return by_status(status, said, where, headers)


def _info(found: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        path=found["name"],
        size=int(found["size"]),
        etag=found["generation"],
        modified=datetime.fromisoformat(found["updated"]),
        storage_class=found.get("storageClass") or "STANDARD",
    )
