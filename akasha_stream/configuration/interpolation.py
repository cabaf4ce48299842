"""`${VAR}` and `${VAR:default}` in a text; `$${` stands for a literal `${`.

The syntax of Spring and of the storage guide. A variable that is set but empty counts as not set (compose
files pass `VAR=${VAR:-}` on): then the default holds. Defaults are taken as they are, up to the closing brace;
they don't nest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\$\$\{|\$\{(?P<body>[^{}]*)(?P<close>\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InterpolationError(ValueError):
    """A reference is malformed, or its variable is neither set nor has a default."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its references replaced. Raises InterpolationError, which names the variable."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match["close"] is None:
            raise InterpolationError(f"{match[0]!r} has no closing brace; write $${{ for a literal ${{")
        name, colon, default = match["body"].partition(":")
        if not _NAME.fullmatch(name):
            raise InterpolationError(f"{match[0]!r} is no ${{VAR}} or ${{VAR:default}}; write $${{ for a literal ${{")
        if value := variables.get(name):
            return value
        if not colon:
            raise InterpolationError(f"the environment variable {name} is not set, and ${{{name}}} has no default")
        return default

    return _TOKEN.sub(replace, text)
