"""Commands that change something are in the audit log, as what is asked over HTTP is."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akasha_stream.settings import Settings


@contextmanager
def audited(found: Settings, what: str, **about: object) -> Iterator[None]:
    """Record what the block does, and how it ends. Raises SettingsError where the audit file can't be opened: then
    nothing is changed either."""
    from akasha_stream.auth.audit import Action, Audit
    from akasha_stream.auth.caller import Caller

    audit = Audit(found.auth.audit_file)
    result = "failed"
    try:
        yield
        result = "ok"
    except Exception as error:
        result = type(error).__name__
        raise
    finally:
        audit.record(Caller(f"user {getpass.getuser()}"), Action(what, "", about, None), result)
        audit.close()
