"""The one error tree.

AkashaError                      root: every error that this product raises on purpose
├── SettingsError                a setting or topic file is wrong: names the key, the value and the way out
├── UsageError                   a command or call was asked for something it can't do
├── EventError                   one event or bundle is not acceptable; `reason` is a stable word
│   ├── DecodeError              the bytes are no bundle
│   └── ValidationError          the bundle decodes, the event breaks a limit
├── PublishError                 an event was not acknowledged by the broker
│   └── PublisherClosed          used after close()
├── SourceError                  a file or database to publish from can't be read
├── BrokerError                  Kafka can't be reached or refuses            (retry can help)
│   ├── TopicDrift               the topics on the broker differ from topics/*.yml
│   └── LogRecreated             a topic is another log than the one its offsets belong to
├── ShardError                   the hot store
│   ├── ShardWriteError          a commit did not happen (disk full, I/O)      (retry can help)
│   ├── ShardLocked              another process has the shard's files open
│   └── SegmentCorrupt           a file is not what its name says
├── LookupUnavailable           the Redis tables                               (retry can help)
├── SearchError                  a search that can't be answered
│   ├── EmbedderMissing          a text query, and no embedder is configured
│   ├── EmbedderFailed           the embedder did not answer                    (retry can help)
│   └── EventNotFound            "like this event" or GET of an event that is not stored
├── ServiceUnreachable          the client got no answer from the HTTP API         (retry can help)
└── ServerStartError             an embedded server did not come up
"""

from __future__ import annotations


class AkashaError(Exception):
    """Root of all errors raised on purpose. `retriable`: the same call may succeed later."""

    retriable: bool = False


class SettingsError(AkashaError):
    """A setting is unknown or has a wrong value; the message names key, value and way out."""


class UsageError(AkashaError):
    """The caller asked for something that can't be done; the message says what can."""


class EventError(AkashaError):
    """One event or bundle can't be accepted.

    `reason` is a stable lower_snake_case word, used in dead letters and metrics.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecodeError(EventError):
    """The bytes of a Kafka record are no bundle."""


class ValidationError(EventError):
    """An event decodes, and breaks a limit."""


class PublishError(AkashaError):
    """An event was not acknowledged by the broker."""

    retriable = True


class PublisherClosed(PublishError):
    """The publisher was used after close()."""

    retriable = False


class SourceError(AkashaError):
    """A file or database to publish from can't be read; names the place in it."""


class BrokerError(AkashaError):
    """Kafka can't be reached, or refuses."""

    retriable = True


class TopicDrift(BrokerError):
    """The topics on the broker differ from their definitions."""

    retriable = False


class LogRecreated(BrokerError):
    """The topic is another log than the one that the stored offsets belong to."""


class ShardError(AkashaError):
    """The hot store."""


class ShardWriteError(ShardError):
    """A batch did not commit; nothing of it is stored."""

    retriable = True


class ShardLocked(ShardError):
    """Another process has the shard's files open."""


class SegmentCorrupt(ShardError):
    """A segment file is not what its name says; the message names the file."""


class LookupUnavailable(AkashaError):
    """The Redis tables can't be reached."""

    retriable = True


class SearchError(AkashaError):
    """A search that can't be answered as asked."""


class EmbedderMissing(SearchError):
    """A text query, and no embedder is configured."""


class EmbedderFailed(SearchError):
    """The embedder did not answer."""

    retriable = True


class EventNotFound(SearchError):
    """No stored event has this identity."""


class ServiceUnreachable(AkashaError):
    """The client got no answer from the HTTP API; names the URL and how to start a worker."""

    retriable = True


class ServerStartError(AkashaError):
    """An embedded server did not come up; the message carries the end of its log."""
