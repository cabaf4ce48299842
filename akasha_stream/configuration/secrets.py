"""Texts without their secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

MASK = "**********"
# Greedy up to the last @ before the path: a password may itself hold an unescaped @ or ':'.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^:@/\s]*):(?P<password>[^/\s]*)@")
_SECRET_PARAMETER = re.compile(
    r"pass(word|wd)?|pwd|secret|token|api[_-]?key|access[_-]?key|sig(nature)?", re.IGNORECASE
)


# ${VAR} without a default: what stands in its place is not in the text.
_REFERENCE = re.compile(r"\$\{\w+:?\}", re.ASCII)


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret, by the name alone."""
    return _SECRET_PARAMETER.fullmatch(name) is not None


def secrets_of_urls(text: str) -> list[str]:
    """Passwords and secret query parameters of the URLs in it; ${VAR} is none."""
    text = _REFERENCE.sub("", text)
    found = [match["password"] for match in _USERINFO.finditer(text)]
    try:
        query = parse_qsl(urlsplit(text).query) if "://" in text else []
    except ValueError:
        return [text]
    return [secret for secret in (*found, *(value for name, value in query if is_secret_name(name))) if secret]


def mask_urls(text: str) -> str:
    """`text` with the passwords of the URLs in it masked."""
    return _USERINFO.sub(rf"\g<scheme>\g<user>:{MASK}@", text)


def mask_url(url: str) -> str:
    """One URL with its password and secret query parameters masked; something that is no URL is masked whole."""
    masked = mask_urls(url)
    try:
        parts = urlsplit(masked)
    except ValueError:
        return MASK
    if not parts.scheme or "@" in parts.path or "@" in parts.query:
        return MASK
    query = [
        (name, MASK if _SECRET_PARAMETER.fullmatch(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit(parts._replace(query=urlencode(query, safe="*")))
