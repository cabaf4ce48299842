"""Lifecycle rules, where a store has them."""

from __future__ import annotations

from typing import Any

import pytest

from akasha_stream.errors import SettingsError
from akasha_stream.storage import LifecycleRule
from akasha_stream.storage.guarded import GuardedAdapter
from tests.behaviours.storage_fixtures import StorageFixtures


class LifecycleBehaviour(StorageFixtures):
    async def test_lifecycle_rules_come_back_and_are_replaced(self, store: GuardedAdapter[Any], bucket: str) -> None:
        assert list(await store.lifecycle(bucket)) == []
        rules = [
            LifecycleRule("segments/", 30, storage_class=store.tier_classes["warm"]),
            LifecycleRule("segments/", 90, storage_class=store.tier_classes["cold"]),
            LifecycleRule("cache/", 7, expire=True),
            LifecycleRule("", 7, abort_uploads=True),
        ]
        for wanted in (rules, rules, rules[:1], []):
            await store.apply_lifecycle(bucket, wanted)
            assert list(await store.lifecycle(bucket)) == wanted

    async def test_a_rule_with_an_unknown_class_changes_nothing(self, store: GuardedAdapter[Any], bucket: str) -> None:
        with pytest.raises(SettingsError, match="LUKEWARM"):
            await store.apply_lifecycle(bucket, [LifecycleRule("a/", 3, storage_class="LUKEWARM")])
        assert list(await store.lifecycle(bucket)) == []
