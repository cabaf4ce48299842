"""Settings as plain values without their secrets: for `config show` and logs."""

from __future__ import annotations

from pydantic import BaseModel, SecretStr

from akasha_stream.configuration.secrets import MASK, mask_url, mask_urls


def redacted(model: BaseModel) -> dict[str, object]:
    """JSON-ready values. Of a secret URL the password is masked, other secrets are masked whole."""
    return {name: _plain(value) for name, value in model}


def _plain(value: object) -> object:
    match value:
        case BaseModel():
            return redacted(value)
        case SecretStr():
            secret = value.get_secret_value()
            return mask_url(secret) if "://" in secret else MASK
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case str():
            return mask_urls(value)
        case bool() | int() | float() | None:
            return value
        case _:
            return str(value)
