"""The breaker, the retry policy, the metrics and the words for failures, without a server."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from akasha_stream.errors import (
    ObjectNotFound,
    StorageCircuitOpen,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
)
from akasha_stream.storage import LifecycleRule
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.failures import by_status, network_failure, retry_after
from akasha_stream.storage.local_adapter import LocalStorageAdapter
from akasha_stream.storage.parts import in_parts
from akasha_stream.storage.retry import RetryPolicy
from akasha_stream.storage.s3_restore import restore_state_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("s3://bucket/", failures=3, reset_s=10, clock=clock)


def state_of(breaker: CircuitBreaker) -> str:
    return breaker.state


def fail(breaker: CircuitBreaker, error: BaseException) -> None:
    with pytest.raises(type(error)), breaker.request():
        raise error


def test_only_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    for answered in (ObjectNotFound("no"), StorageDenied("no")):
        fail(breaker, StorageUnavailable("1"))
        fail(breaker, StorageUnavailable("2"))
        fail(breaker, answered)  # a store that says so is up
        assert state_of(breaker) == "closed"
    for number in range(3):
        fail(breaker, StorageUnavailable(f"failure {number}"))
    refused = pytest.raises(StorageCircuitOpen, match=r"s3://bucket/.* after 3 failures in a row.*failure 2")
    with refused as caught, breaker.request():
        pytest.fail("it let the request pass")
    assert caught.value.retry_after_s == 10
    assert str(caught.value.tripped_by) == "failure 2"


def test_half_open_tries_one_request(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker, StorageUnavailable("down"))
    clock.now = 10.0
    assert state_of(breaker) == "half_open"
    with breaker.request():
        fail(breaker, StorageCircuitOpen("", StorageError(), 0))  # the second, while the first is under way
    assert state_of(breaker) == "closed"


def test_a_cancelled_trial_says_nothing(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker, StorageUnavailable("down"))
    clock.now = 10.0
    fail(breaker, asyncio.CancelledError())
    assert state_of(breaker) == "half_open"
    with breaker.request():
        pass
    assert state_of(breaker) == "closed"


async def attempts_that_fail(policy: RetryPolicy, error: StorageError, made: list[int]) -> None:
    async for attempt in policy.rounds():
        with attempt:
            made.append(attempt.num)
            raise error


async def test_the_wait_that_a_store_asks_for_is_kept() -> None:
    policy = RetryPolicy(attempts=2, first_wait_s=0, jitter_s=0, longest_wait_s=0.2)
    started = asyncio.get_running_loop().time()
    with pytest.raises(StorageUnavailable):
        await attempts_that_fail(policy, StorageUnavailable("slow down", retry_after_s=60), [])
    assert 0.19 < asyncio.get_running_loop().time() - started < 2


@pytest.mark.parametrize(
    "error", [StorageDenied("x"), StorageFull("x"), ObjectNotFound("x"), StorageCircuitOpen("x", StorageError(), 1)]
)
async def test_others_are_not_repeated(error: StorageError) -> None:
    made: list[int] = []
    with pytest.raises(type(error)):
        await attempts_that_fail(RetryPolicy(first_wait_s=0), error, made)
    assert made == [1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StorageRefused),
        (401, StorageDenied),
        (403, StorageDenied),
        (404, ObjectNotFound),
        (408, StorageUnavailable),
        (429, StorageUnavailable),
        (500, StorageUnavailable),
        (501, StorageRefused),
        (503, StorageUnavailable),
        (507, StorageFull),
    ],
)
def test_what_a_status_means(status: int, kind: type[StorageError]) -> None:
    error = by_status(status, "its words\n" + "x" * 5_000, "s3://bucket/path", {"Retry-After": "7"})
    assert type(error) is kind
    assert str(error).startswith("s3://bucket/path: its words x")
    assert len(str(error)) < 600
    if isinstance(error, StorageUnavailable):
        assert error.retry_after_s == 7


def test_retry_after() -> None:
    assert retry_after(None) is None
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)}) == 0
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    assert 57 < (retry_after({"Retry-After": in_a_minute}) or 0) <= 60


def test_a_fault_of_ours_is_no_failure_of_the_network() -> None:
    assert isinstance(network_failure(ConnectionResetError(errno.ECONNRESET, "reset"), "s3://b/"), StorageUnavailable)
    assert isinstance(network_failure(TimeoutError(), "s3://b/"), StorageUnavailable)
    assert network_failure(KeyError("x"), "s3://b/") is None


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 35])
async def test_parts(size: int, tmp_path: Path) -> None:
    data = bytes(range(size))
    (tmp_path / "file").write_bytes(data)

    async def bits() -> Any:
        for start in range(0, size, 3):
            yield data[start : start + 3]

    for source in (data, tmp_path / "file", bits()):
        parts = [each async for each in in_parts(source, 10)]
        assert b"".join(part for part, _ in parts) == data
        assert [len(part) for part, _ in parts[:-1]] == [10] * (len(parts) - 1)
        assert [last for _, last in parts] == [False] * (len(parts) - 1) + [True]
        assert len(parts) == max(1, -(-size // 10))


@pytest.mark.parametrize(
    ("head", "status", "readable"),
    [
        ({}, "available", True),
        ({"StorageClass": "GLACIER_IR"}, "available", True),
        ({"StorageClass": "GLACIER"}, "archived", False),
        ({"StorageClass": "INTELLIGENT_TIERING", "ArchiveStatus": "ARCHIVE_ACCESS"}, "archived", False),
        ({"StorageClass": "DEEP_ARCHIVE", "Restore": 'ongoing-request="true"'}, "restoring", False),
    ],
)
def test_what_a_head_says_of_an_archived_object(head: dict[str, str], status: str, readable: bool) -> None:
    state = restore_state_of(head)
    assert (state.status, state.readable, state.expires) == (status, readable, None)


def test_a_restored_object_says_until_when() -> None:
    state = restore_state_of(
        {
            "StorageClass": "GLACIER",
            "Restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"',
        }
    )
    assert state.status == "restored"
    assert state.expires == datetime(2012, 12, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        {"after_days": 3},
        {"after_days": 0, "expire": True},
        {"after_days": 3, "expire": True, "storage_class": "X"},
        {"after_days": 3, "expire": True, "abort_uploads": True},
    ],
)
def test_a_lifecycle_rule_is_one_thing(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lifecycle rule"):
        LifecycleRule("a/", **wrong)


@pytest.fixture(scope="module")
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(provider := MeterProvider([reader]))
    yield reader
    provider.shutdown()


async def test_metrics(reader: InMemoryMetricReader, tmp_path: Path) -> None:
    store = LocalStorageAdapter("bucket", tmp_path, tier="warm")
    await store.ensure_bucket("bucket")
    await store.upload("bucket", "object", b"12345")
    assert await store.download("bucket", "object") == b"12345"
    with pytest.raises(ObjectNotFound):
        await store.download("bucket", "no/such")
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        found[metric.name] = [(dict(point.attributes or {}), point) for point in metric.data.data_points]
    mine = {"akasha.storage.provider": "local", "akasha.storage.tier": "warm"}
    bytes_by = {each["akasha.storage.direction"]: point.value for each, point in found["akasha.storage.io"]}
    assert bytes_by == {"read": 5, "write": 5}
    operations = found["akasha.storage.operation.duration"]
    assert all(mine.items() <= each.items() for each, _ in operations)
    assert {(each["akasha.storage.operation"], each.get("error.type")) for each, _ in operations} == {
        ("ensure_bucket", None),
        ("upload", None),
        ("download", None),
        ("download", "ObjectNotFound"),
    }
