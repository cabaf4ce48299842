"""akasha-stream: embeddings from Kafka through Faust into DuckDB, searchable within a second.

The public names are imported when they are first used: `import akasha_stream` costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akasha_stream.client import AkashaClient
    from akasha_stream.events.model import Event
    from akasha_stream.publish.delivery import Delivery
    from akasha_stream.publish.publisher import EventPublisher
    from akasha_stream.publish.sync import SyncPublisher
    from akasha_stream.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "AkashaClient": "akasha_stream.client",
    "Delivery": "akasha_stream.publish.delivery",
    "Event": "akasha_stream.events.model",
    "EventPublisher": "akasha_stream.publish.publisher",
    "Settings": "akasha_stream.settings",
    "SyncPublisher": "akasha_stream.publish.sync",
}

__all__ = ["AkashaClient", "Delivery", "Event", "EventPublisher", "Settings", "SyncPublisher", "__version__"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
