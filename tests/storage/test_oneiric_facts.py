"""What Oneiric 0.17 does that storage/registration.py and storage/tiers.py are built around.

When one of these fails after an upgrade, what it made necessary can go.
"""

from __future__ import annotations

import asyncio

import pytest
from oneiric import plugins
from oneiric.adapters.bridge import AdapterBridge
from oneiric.adapters.metadata import AdapterMetadata, register_adapter_metadata
from oneiric.core.config import LayerSettings, PluginsConfig
from oneiric.core.lifecycle import LifecycleError, LifecycleManager
from oneiric.core.resolution import Resolver


class Adapter:
    def __init__(self, name: str) -> None:
        self.name = name
        self.initialised = False

    async def init(self) -> None:
        self.initialised = True


def bridge_of(*adapters: AdapterMetadata) -> AdapterBridge:
    resolver = Resolver()
    for adapter in adapters:
        register_adapter_metadata(resolver, package_name="test", package_path=__file__, adapters=[adapter])
    return AdapterBridge(resolver=resolver, lifecycle=LifecycleManager(resolver), settings=LayerSettings())


def adapter(category: str, provider: str, name: str | None = None) -> AdapterMetadata:
    return AdapterMetadata(category=category, provider=provider, factory=lambda: Adapter(name or provider))


async def test_a_category_has_one_live_instance_whatever_the_provider() -> None:
    """The guide's three tiers in the category `storage`: warm data would go to the hot bucket."""
    bridge = bridge_of(adapter("storage", "s3-hot"), adapter("storage", "s3-warm"))
    assert (await bridge.use("storage", provider="s3-hot")).instance.name == "s3-hot"
    handle = await bridge.use("storage", provider="s3-warm")
    assert (handle.provider, handle.instance.name) == ("s3-warm", "s3-hot")
    with pytest.raises(LifecycleError, match="No adapter candidate found for storage-s3-hot"):
        await bridge.use("storage-s3-hot")


async def test_nobody_calls_init() -> None:
    handle = await bridge_of(adapter("storage-a", "a")).use("storage-a")
    assert not handle.instance.initialised


async def test_first_uses_at_once_make_several_instances() -> None:
    made: list[Adapter] = []

    async def factory() -> Adapter:
        await asyncio.sleep(0)
        made.append(Adapter("a"))
        return made[-1]

    bridge = bridge_of(AdapterMetadata(category="storage-a", provider="a", factory=factory))
    await asyncio.gather(*(bridge.use("storage-a") for _ in range(5)))
    assert len(made) == 5


async def test_after_two_registrations_the_first_is_opened_and_the_last_announced() -> None:
    first, last = adapter("storage-a", "a", "first"), adapter("storage-a", "a", "last")
    last.description = "the last"
    handle = await bridge_of(first, last).use("storage-a")
    assert (handle.instance.name, handle.metadata["description"]) == ("first", "the last")


def test_discovery_dies_of_most_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class EntryPoint:
        name = "any"

        def load(self) -> object:
            def fails() -> None:
                raise RuntimeError("mine")

            return fails

    monkeypatch.setattr(plugins, "iter_entry_points", lambda _group: (EntryPoint(),))
    with pytest.raises(RuntimeError, match="mine"):
        plugins.register_entrypoint_plugins(Resolver(), PluginsConfig(auto_load=False, entry_points=["x"]))
