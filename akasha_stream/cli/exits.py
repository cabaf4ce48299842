"""Exit codes of every command.

0    done
1    failed
2    used wrongly: unknown option, something asked for that can't be done
3    a setting or topic file is wrong
4    the broker can't be reached, or refuses
5    the topics differ from their definitions
6    done, but some of the input was refused
130  interrupted (Ctrl-C)
"""

from __future__ import annotations

from akasha_stream.errors import (
    AkashaError,
    BrokerError,
    CacheUnavailable,
    LogRecreated,
    LookupUnavailable,
    SettingsError,
    ShardWriteError,
    StorageDenied,
    StorageUnavailable,
    TopicDrift,
    UsageError,
)

OK = 0
FAILED = 1
USAGE = 2
SETTINGS = 3
BROKER = 4
DRIFT = 5
REFUSED = 6
INTERRUPTED = 130


def exit_code(error: AkashaError) -> int:
    match error:
        case UsageError():
            return USAGE
        case SettingsError():
            return SETTINGS
        case TopicDrift():
            return DRIFT
        case BrokerError():
            return BROKER
        case _:
            return FAILED


def next_step(error: AkashaError) -> str | None:
    """The command that finds out more, or mends it; None where the message names one, or says what to do."""
    if "akasha-stream " in str(error):
        return None
    match error:
        case TopicDrift():
            return "akasha-stream topics apply"
        case LogRecreated():
            return "akasha-stream status"
        case BrokerError() | LookupUnavailable() | CacheUnavailable() | ShardWriteError():
            return "akasha-stream doctor"
        case StorageUnavailable() | StorageDenied():
            return "akasha-stream doctor --storage"
        case _:
            return None
