"""The one error tree.

AkashaError                      root: every error that this product raises on purpose
├── SettingsError                a setting or topic file is wrong: names the key, the value and the way out
├── UsageError                   a command or call was asked for something it can't do
│   └── LetterNotFound           there is no dead letter at that place
├── EventError                   one event or bundle is not acceptable; `reason` is a stable word
│   ├── DecodeError              the bytes are no bundle
│   └── ValidationError          the bundle decodes, the event breaks a limit
├── PublishError                 an event was not acknowledged by the broker
│   └── PublisherClosed          used after close()
├── SourceError                  a file or database to publish from can't be read
├── BrokerError                  Kafka can't be reached or refuses            (retry can help)
│   ├── BrokerDenied             it lets no one in with these credentials, certificates or protocol
│   ├── TopicDrift               the topics on the broker differ from topics/*.yml
│   └── LogRecreated             a topic is another log than the one its offsets belong to
├── ShardError                   the hot store
│   ├── ShardWriteError          a commit did not happen (disk full, I/O)      (retry can help)
│   ├── ShardMoved               another worker has the partition now            (retry can help)
│   ├── ShardReplaced            it was made anew, and its partition is read from another offset (retry can help)
│   ├── ShardLocked              another process has the shard's files open
│   └── SegmentCorrupt           a file is not what its name says
├── StorageError                 an object store: S3, GCS, Azure, a folder
│   ├── StorageUnavailable       no answer, or one that says: later             (retry can help)
│   │   └── StorageCircuitOpen   not asked: it failed too often; says with what (retry can help)
│   ├── StorageFull              no room, or a quota is reached                 (retry can help)
│   ├── StorageDenied            the credentials are missing, wrong or not allowed to
│   ├── StorageRefused           the store takes the request for wrong
│   ├── ObjectPathRefused        the path or bucket name can't be one on every provider
│   ├── ObjectNotFound           there is no such object
│   │   └── BucketNotFound       nor its bucket
│   ├── ObjectArchived           it must be restored before it can be read
│   ├── ObjectChanged            it was replaced while it was read
│   └── SegmentTaken             another worker stored other rows under a segment's key
├── LookupUnavailable           the Redis tables                               (retry can help)
├── CacheError                   a value can't be cached and come back the same
├── CacheUnavailable             the cache in Redis                             (retry can help)
├── SearchError                  a search that can't be answered
│   ├── EmbedderMissing          a text query, and no embedder is configured
│   ├── EmbedderFailed           the embedder did not answer                    (retry can help)
│   ├── EventNotFound            "like this event" or GET of an event that is not stored
│   └── OwnerUnavailable         the worker that owns a partition did not answer (retry can help)
├── AccessError                  the HTTP API does not do this for this caller
│   ├── NotAuthenticated         no key or token, or one that is not valid
│   ├── NotAllowed               the key lacks a scope, or does not cover all source systems
│   └── TooManyRequests          of this caller, just now                       (retry can help)
├── AnswerTimeout                the answer took longer than http.timeout_s      (retry can help)
├── NotSearchableYet            Kafka has what was written, no search finds it yet (retry can help)
├── ServiceUnreachable          the client got no answer from the HTTP API         (retry can help)
├── BackupDamaged                a backup file is not what was written
└── ServerStartError             an embedded server did not come up
"""

from __future__ import annotations

from typing import Literal

OwnerReason = Literal["partition_not_owned", "worker_unreachable", "worker_timeout", "worker_failed"]


class AkashaError(Exception):
    """Root of all errors raised on purpose. `retriable`: the same call may succeed later."""

    retriable: bool = False


class SettingsError(AkashaError):
    """A setting is unknown or has a wrong value; the message names key, value and way out."""


class UsageError(AkashaError):
    """The caller asked for something that can't be done; the message says what can."""


class LetterNotFound(UsageError):
    """There is no dead letter at this place, or it was purged."""


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


class BrokerDenied(BrokerError):
    """Kafka answers, and does not let us in; the message names the setting that is wrong."""

    retriable = False


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


class ShardMoved(ShardError):
    """The partition is not this worker's, or not any more."""

    retriable = True


class ShardReplaced(ShardError):
    """A shard was made anew: the reading of its partition starts again, where the new one ends."""

    retriable = True


class ShardLocked(ShardError):
    """Another process has the shard's files open."""


class SegmentCorrupt(ShardError):
    """A segment file is not what its name says; the message names the file."""


class StorageError(AkashaError):
    """An object store did not do what it was asked; the message names provider, bucket and path."""


class StorageUnavailable(StorageError):
    """No answer in time, or one that says: later (5xx, 429). What was asked may have happened."""

    retriable = True

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageCircuitOpen(StorageUnavailable):
    """Not asked, because the last requests failed. `tripped_by`: the error of the last of them."""

    def __init__(self, message: str, tripped_by: StorageError, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.tripped_by = tripped_by


class StorageFull(StorageError):
    """There is no room, or a quota is reached. A retry helps once someone has made room, not at once."""

    retriable = True


class StorageDenied(StorageError):
    """The credentials are missing, wrong or not allowed to do this."""


class StorageRefused(StorageError):
    """The store takes the request for wrong (4xx); the message carries what it said."""


class ObjectPathRefused(StorageError):
    """A path or bucket name that can't be one on every provider; says why."""


class ObjectNotFound(StorageError):
    """There is no such object."""


class BucketNotFound(ObjectNotFound):
    """There is no such bucket, so no object in it."""


class ObjectArchived(StorageError):
    """The object is in an archive class: restore() it, then read it."""


class ObjectChanged(StorageError):
    """The object was replaced while it was read in chunks."""


class SegmentTaken(StorageError):
    """Another worker stored a segment with other rows under the same key: it cut or rewrote the log otherwise."""


class LookupUnavailable(AkashaError):
    """The Redis tables can't be reached."""

    retriable = True


class CacheError(AkashaError):
    """A value can't be cached so that it comes back the same; names its type and where it is in the whole."""


class CacheUnavailable(AkashaError):
    """The cache in Redis can't be reached, or refuses."""

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


class OwnerUnavailable(SearchError):
    """The worker that owns a partition did not answer, or none owns it; what it has is not known.

    `reason` is the word that an `incomplete` entry has for it.
    """

    retriable = True

    def __init__(self, message: str, reason: OwnerReason = "partition_not_owned") -> None:
        super().__init__(message)
        self.reason: OwnerReason = reason


class AccessError(AkashaError):
    """The HTTP API does not do this for this caller."""


class NotAuthenticated(AccessError):
    """No key or token came, or one that is not valid; which of it, is not told."""


class NotAllowed(AccessError):
    """Who calls is known, and may not do this; says what is missing."""


class TooManyRequests(AccessError):
    """The caller's rate is used up. `retry_after_s`: when there is room for one."""

    retriable = True

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AnswerTimeout(AkashaError):
    """The answer was not there within the worker's time limit."""

    retriable = True


class NotSearchableYet(AkashaError):
    """Kafka has what was written, and the worker did not take it in in time; nothing is lost."""

    retriable = True


class ServiceUnreachable(AkashaError):
    """The client got no answer from the HTTP API; names the URL and how to start a worker."""

    retriable = True


class BackupDamaged(AkashaError):
    """A backup file is cut off, changed, or none; names the file."""


class ServerStartError(AkashaError):
    """An embedded server did not come up; the message carries the end of its log."""
