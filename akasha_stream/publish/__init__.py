"""Publishing: EventPublisher, its sync front, and the sources that `akasha-stream publish` reads."""

from __future__ import annotations

from akasha_stream.publish.delivery import Delivery, TableDelivery, merge_tokens
from akasha_stream.publish.publisher import EventPublisher
from akasha_stream.publish.sync import SyncPublisher

__all__ = ["Delivery", "EventPublisher", "SyncPublisher", "TableDelivery", "merge_tokens"]
