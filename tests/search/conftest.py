from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from akasha_stream.search.embedders import Embedder
from akasha_stream.search.engine import Lookups, SearchEngine
from akasha_stream.search.segment import HotStore
from akasha_stream.settings import Limits, SearchSettings, Settings

type MakeEngine = Callable[..., SearchEngine]


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    engines: list[SearchEngine] = []

    def make(
        store: HotStore,
        *,
        dimensions: int = 8,
        embedder: Embedder | None = None,
        lookups: Lookups | None = None,
        search: SearchSettings | None = None,
    ) -> SearchEngine:
        settings = Settings(limits=Limits(dimensions=dimensions), search=search or SearchSettings(threads=1))
        engines.append(SearchEngine(store, settings, embedder, lookups=lookups))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
