"""Commands that change something are in the audit log, as what is asked over HTTP is.

No worker need run: the process writes its line itself, into its own log on stderr, and into auth.audit_file, which
several processes may append to.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akasha_stream.settings import Settings


@contextmanager
def audited(found: Settings, what: str, *, dry_run: bool = False, **about: object) -> Iterator[None]:
    """Record what the block does, and how it ends; nothing of a dry run. Raises SettingsError where the audit file
    can't be opened: then nothing is changed either."""
    if dry_run:
        yield
        return
    from akasha_stream.auth.audit import Action, Audit
    from akasha_stream.auth.caller import Caller
    from akasha_stream.errors import AkashaError

    audit = Audit(found.auth.audit_file)
    result = "failed"
    try:
        yield
        result = "ok"
    except AkashaError as error:
        result = type(error).__name__
        raise
    finally:
        audit.record(Caller(f"user {_user()}"), Action(what, "", about, None), result)
        audit.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())
