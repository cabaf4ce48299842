"""What a worker imports sooner or later: here before it is forked."""

from __future__ import annotations

import aioboto3
import faust.transport.drivers.aiokafka

import akasha_stream.storage
import akasha_stream.storage.s3_adapter
import akasha_stream.storage.tiers
import akasha_stream.tiers.compact
import akasha_stream.tiers.run_policy
import akasha_stream.tiers.tiering
import akasha_stream.worker

__all__ = ["aioboto3", "akasha_stream", "faust"]
