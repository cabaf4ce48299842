"""What every store behind a network does when the network or the store fails, and what it never does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from akasha_stream.errors import StorageCircuitOpen, StorageDenied, StorageError, StorageUnavailable
from akasha_stream.storage.breaker import CircuitBreaker
from akasha_stream.storage.guarded import GuardedAdapter
from akasha_stream.storage.parts import PART_BYTES
from akasha_stream.storage.retry import RetryPolicy
from tests.behaviours.storage_fixtures import QUICK, Connect, StorageFixtures, paths, sample
from tests.servers.fault_proxy import Fault, FaultProxy, always, planned, seeded

# What a retry mends. HANG is apart, since it costs a time-out each.
MENDED = [
    Fault.ERROR,
    Fault.ERROR_AFTER,
    Fault.DROPPED,
    Fault.LOST_ANSWER,
    Fault.TORN_REQUEST,
    Fault.TORN_ANSWER,
    Fault.DOUBLED,
    Fault.SLOW,
]


class NetworkBehaviour(StorageFixtures):
    """Give also the fixture `endpoint_url`, that of the server."""

    schedule_has_large: ClassVar[bool] = True

    @pytest.fixture
    def endpoint_url(self) -> str:
        raise NotImplementedError

    def wrong_credentials(self) -> dict[str, Any]:
        """Options that the server refuses; empty where it takes any."""
        return {}

    def endpoint_option(self, url: str) -> dict[str, Any]:
        return {"endpoint_url": url}

    @pytest.fixture
    async def proxy(self, endpoint_url: str) -> AsyncIterator[FaultProxy]:
        async with FaultProxy(endpoint_url, slow_s=0.05) as proxy:
            yield proxy

    @pytest.fixture
    def far(self, open_store: Connect, proxy: FaultProxy, bucket: str) -> GuardedAdapter[Any]:
        """An adapter behind the proxy. Its first request is made, so that a plan meets the test's own."""
        return open_store(bucket, **self.endpoint_option(proxy.url))

    @pytest.mark.parametrize("fault", MENDED)
    async def test_a_retry_mends(self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy, fault: Fault) -> None:
        data = sample(100_000)
        for call in (
            lambda: far.upload(bucket, "a/object", data),
            lambda: far.put_if_absent(bucket, "a/created", data),
            lambda: far.stat(bucket, "a/object"),
            lambda: far.set_storage_class(bucket, "a/object", far.storage_class),
            lambda: far.restore_state(bucket, "a/object"),
        ):
            proxy.schedule = planned(fault)
            await call()
        proxy.schedule = planned(fault)
        assert await far.download(bucket, "a/object") == data
        proxy.schedule = planned(fault)
        assert await far.download(bucket, "a/created") == data
        proxy.schedule = planned(fault)
        assert await far.download_range(bucket, "a/object", 90_000, 20_000) == data[90_000:]
        proxy.schedule = planned(None, fault, None, fault)
        assert b"".join([each async for each in far.download_stream(bucket, "a/object", 30_000)]) == data
        proxy.schedule = planned(fault)
        assert await paths(far, bucket) == ["a/created", "a/object"]
        proxy.schedule = planned(fault)
        await far.delete(bucket, "a/object")
        proxy.schedule = planned()
        assert await paths(far, bucket) == ["a/created"]
        assert proxy.count(fault) == 12

    @pytest.mark.parametrize("fault", MENDED)
    async def test_one_create_is_told_once(
        self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy, fault: Fault
    ) -> None:
        """A lost answer, or a request that arrives twice, does not make ours look like another's, nor the reverse."""
        proxy.schedule = planned(fault)
        assert await far.put_if_absent(bucket, "object", b"ours") is True
        proxy.schedule = planned(fault)
        assert await far.put_if_absent(bucket, "object", b"ours") is False

    @pytest.mark.parametrize("fault", MENDED)
    @pytest.mark.parametrize("conditional", [False, True])
    async def test_a_large_upload_survives_faults_in_each_of_its_requests(
        self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy, fault: Fault, conditional: bool
    ) -> None:
        data = sample(PART_BYTES + 7)
        put = far.put_if_absent if conditional else far.upload
        proxy.schedule = planned(*[fault, None] * 5)
        assert await put(bucket, "object", data) in (True, None)
        proxy.schedule = planned()
        assert await far.download(bucket, "object") == data
        assert await paths(far, bucket) == ["object"]

    async def test_a_hanging_store_is_given_up_and_asked_again(
        self, open_store: Connect, bucket: str, proxy: FaultProxy
    ) -> None:
        policy = RetryPolicy(attempts=3, attempt_s=0.3, first_wait_s=0.01, jitter_s=0.01)
        store = open_store(bucket, retry=policy, **self.endpoint_option(proxy.url))
        await store.upload(bucket, "object", b"bytes")
        proxy.schedule = planned(Fault.HANG)
        assert await store.download(bucket, "object") == b"bytes"
        proxy.schedule = planned(Fault.HANG)
        assert await store.put_if_absent(bucket, "created", b"bytes") is True

    @pytest.mark.parametrize("seed", range(4))
    async def test_under_a_seeded_schedule(
        self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy, seed: int
    ) -> None:
        """Whatever happens: exactly the object that one writer was told of, whole, or an honest error."""
        proxy.schedule = seeded(seed, rate=0.4, faults=MENDED)
        for number in range(12):
            size = PART_BYTES + 7 if self.schedule_has_large and number % 6 == 5 else 100
            bodies = [bytes([number, writer]) * size for writer in range(2)]
            told = await asyncio.gather(
                *(far.put_if_absent(bucket, f"object-{number}", body) for body in bodies), return_exceptions=True
            )
            kept = proxy.schedule
            proxy.schedule = planned()
            assert all(isinstance(each, bool | StorageUnavailable) for each in told)
            assert told.count(True) <= 1
            found = (
                await far.download(bucket, f"object-{number}") if await far.exists(bucket, f"object-{number}") else None
            )
            assert found in (*bodies, None)
            if True in told:
                assert found == bodies[told.index(True)]
            elif told == [False, False]:
                pytest.fail("nobody created it")
            proxy.schedule = kept

    async def test_a_request_cut_off_leaves_no_half_object(
        self, open_store: Connect, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy
    ) -> None:
        await far.upload(bucket, "old", b"old")
        proxy.schedule = always(Fault.TORN_REQUEST)
        for path, size in (("old", 1_000_000), ("new", 1_000_000), ("large", PART_BYTES + 7)):
            with pytest.raises(StorageUnavailable):
                await open_store(bucket, **self.endpoint_option(proxy.url)).upload(bucket, path, sample(size))
        proxy.schedule = planned()
        near = open_store(bucket)
        assert await paths(near, bucket) == ["old"]
        assert await near.download(bucket, "old") == b"old"

    # Retries and the breaker.

    async def test_retries_are_bounded_and_say_what_failed(
        self, open_store: Connect, bucket: str, proxy: FaultProxy
    ) -> None:
        store = open_store(bucket, **self.endpoint_option(proxy.url))
        proxy.schedule = always(Fault.ERROR)
        with pytest.raises(StorageUnavailable, match=f"{bucket}/object.*503") as caught:
            await store.stat(bucket, "object")
        assert caught.value.retriable
        assert len(proxy.seen) == QUICK.attempts

    async def test_what_a_retry_can_not_help_is_asked_once(
        self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy
    ) -> None:
        assert await far.stat(bucket, "no/such") is None
        assert len(proxy.seen) == 1
        await far.put_if_absent(bucket, "object", b"x")
        before = len(proxy.seen)
        assert await far.put_if_absent(bucket, "object", b"x") is False
        assert len(proxy.seen) == before + 2  # the request, and a look at whose it is

    async def test_the_breaker_opens_tells_why_and_closes(
        self, open_store: Connect, bucket: str, proxy: FaultProxy
    ) -> None:
        changes: list[str] = []
        breaker = CircuitBreaker("the store", failures=5, reset_s=0.3, on_change=changes.append)
        store = open_store(bucket, breaker=breaker, **self.endpoint_option(proxy.url))
        proxy.schedule = always(Fault.ERROR)
        with pytest.raises(StorageUnavailable):
            await store.stat(bucket, "object")
        assert changes == ["open"]
        asked = len(proxy.seen)
        with pytest.raises(StorageCircuitOpen, match=r"5 failures in a row.*503") as caught:
            await store.upload(bucket, "object", b"x")
        assert "503" in str(caught.value.tripped_by)
        assert caught.value.retriable
        assert len(proxy.seen) == asked
        await asyncio.sleep(0.35)
        with pytest.raises(StorageUnavailable):  # one trial fails, and opens it again
            await store.stat(bucket, "object")
        assert len(proxy.seen) == asked + 1
        proxy.schedule = planned()
        await asyncio.sleep(0.35)
        await store.upload(bucket, "object", b"x")
        assert changes == ["open", "half_open", "open", "half_open", "closed"]
        assert breaker.tripped_by is None

    async def test_health_while_the_store_is_down(self, open_store: Connect, bucket: str, proxy: FaultProxy) -> None:
        policy = RetryPolicy(attempts=1, health_s=10)
        store = open_store(bucket, retry=policy, **self.endpoint_option(proxy.url))
        assert await store.health() is True
        for fault in (Fault.ERROR, Fault.DROPPED):
            proxy.schedule = always(fault)
            assert await store.health() is False
        proxy.schedule = always(Fault.HANG)
        impatient = RetryPolicy(attempts=1, attempt_s=120, health_s=0.3)
        async with asyncio.timeout(60):  # it is health_s that ends it
            assert await open_store(bucket, retry=impatient, **self.endpoint_option(proxy.url)).health() is False
        proxy.schedule = planned()
        assert await store.health() is True
        nobody = open_store(bucket, retry=policy, **self.endpoint_option("http://127.0.0.1:1"))
        assert await nobody.health() is False
        await nobody.init()  # a worker starts without its store
        with pytest.raises(StorageUnavailable, match=bucket):
            await nobody.stat(bucket, "object")

    # Secrets.

    async def test_credentials_stay_secret(
        self, open_store: Connect, bucket: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        wrong = self.wrong_credentials()
        if not wrong:
            return  # the server takes any
        caplog.set_level(logging.INFO)
        store = open_store(bucket, **wrong)
        assert await store.health() is False
        with pytest.raises(StorageDenied) as caught:
            await store.upload(bucket, "object", b"x")
        assert not caught.value.retriable
        said = f"{store!r} {vars(store)} {caught.value} {caught.value.__cause__!r} {caplog.text} {capfd.readouterr()}"
        for secret in wrong.values():
            assert secret.get_secret_value() not in said

    async def test_every_error_is_of_the_tree(self, far: GuardedAdapter[Any], bucket: str, proxy: FaultProxy) -> None:
        for fault in (Fault.ERROR, Fault.DROPPED, Fault.TORN_ANSWER):
            proxy.schedule = always(fault)
            for call in (far.download(bucket, "x"), paths(far, bucket), far.ensure_bucket(bucket)):
                with pytest.raises(StorageError):
                    await call
