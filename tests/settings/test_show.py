from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from akasha_stream.configuration.secrets import mask_url, mask_urls
from akasha_stream.configuration.show import redacted
from akasha_stream.settings import EmbedderSettings, RedisSettings, Settings


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:pw@h:1/0", "redis://:**********@h:1/0"),
        ("rediss://user:p:w@h/0?ssl=true", "rediss://user:**********@h/0?ssl=true"),
        ("redis://user:p@w@h/0", "redis://user:**********@h/0"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=**********&db=1"),
        ("redis://:p/w@h/0", "**********"),
        ("redis://:p?w@h/0", "redis://:**********@h/0"),
        ("pw", "**********"),
    ],
)
def test_urls_lose_their_password(url: str, wanted: str) -> None:
    assert mask_url(url) == wanted


def test_urls_inside_a_text_do_too() -> None:
    assert mask_urls("connecting to redis://:pw@h/0 failed") == "connecting to redis://:**********@h/0 failed"
    assert mask_urls("a@b, at 10:30 c@d") == "a@b, at 10:30 c@d"


def test_shown_settings_hold_no_secret() -> None:
    settings = Settings(
        redis=RedisSettings(url=SecretStr("redis://u:pw123@h/0")),
        embedder=EmbedderSettings(api_key=SecretStr("sk-123"), url="https://u:pw456@h/v1"),
    )
    text = json.dumps(redacted(settings))
    assert "redis://u:**********@h/0" in text
    for secret in ("pw123", "sk-123", "pw456"):
        assert secret not in text
        assert secret not in repr(settings).replace("https://u:pw456@h/v1", "")
