"""What settings/akasha-storage.yml says: the object stores ("backends"), which tier is on which, the Redis cache.

configuration/storage.py reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SecretStr, field_validator, model_validator

from akasha_stream.errors import ObjectPathRefused, SettingsError
from akasha_stream.settings import Section
from akasha_stream.storage.paths import check_bucket

TierName = Literal["hot", "warm", "cold"]
TIERS: tuple[TierName, ...] = get_args(TierName)
# A backend's name becomes part of an Oneiric category (storage-<name>) and of environment-style messages.
BACKEND_NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"

CACHE_NAME = "redis-cache"
_SHOWN = 60


class Backend(Section):
    """What every object store has. The fields of a provider's model are the arguments of its adapter, and these two:
    `prefix` and `create_bucket`.

    `storage_class`, the provider's own word, of new objects; unset: what the provider has for the tier.
    """

    bucket_name: str
    tier: TierName = "hot"
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9._=-]+/)*$", description="of every key; ends with /")
    create_bucket: bool = Field(default=False, description="make it where it is missing, when it is first used")

    @field_validator("bucket_name")
    @classmethod
    def _is_a_bucket_everywhere(cls, name: str) -> str:
        try:
            check_bucket(name)
        except ObjectPathRefused as error:
            raise ValueError(str(error)) from None
        return name


class S3Backend(Backend):
    """Credentials that are not set here are found as boto does: environment, profile, role of the machine."""

    provider: Literal["s3"] = "s3"
    region: str = Field(default="us-east-1", min_length=1)
    storage_class: (
        Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"]
        | None
    ) = None
    endpoint_url: str | None = Field(default=None, description="of another server than Amazon's")
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None

    @model_validator(mode="after")
    def _both_keys_or_none(self) -> S3Backend:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("found only one of access_key_id and secret_access_key; allowed: both or neither")
        return self


class GCSBackend(Backend):
    """Credentials that are not set here are those of the machine: its metadata server, or gcloud's."""

    provider: Literal["gcs"] = "gcs"
    location: str = Field(default="US", min_length=1)
    storage_class: Literal["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"] | None = None
    project: str | None = None
    endpoint_url: str | None = Field(default=None, description="of an emulator")
    service_account: SecretStr | None = Field(default=None, description="the JSON key's text")
    service_file: Path | None = Field(default=None, description="the JSON key's path")


class AzureBackend(Backend):
    """`bucket_name` is the container. With `account_url` alone the machine's identity is asked (azure-identity)."""

    provider: Literal["azure"] = "azure"
    account_url: str | None = None
    storage_class: Literal["Hot", "Cool", "Cold", "Archive"] | None = None
    connection_string: SecretStr | None = None
    account_key: SecretStr | None = Field(default=None, description="for account_url; an account key or a SAS token")

    @model_validator(mode="after")
    def _one_account(self) -> AzureBackend:
        if (self.account_url is None) == (self.connection_string is None):
            raise ValueError("found both or neither of account_url and connection_string; allowed: one of them")
        return self


class LocalBackend(Backend):
    """`bucket_name` is a folder below `root`."""

    provider: Literal["local"] = "local"
    root: Path = Path("data/objects")
    storage_class: Literal["STANDARD"] | None = None
    create_bucket: bool = True


type AnyBackend = Annotated[S3Backend | GCSBackend | AzureBackend | LocalBackend, Field(discriminator="provider")]


class RedisCacheSettings(Section):
    """The guide's `redis-cache`."""

    provider: Literal["redis"] = "redis"
    host: str = Field(default="localhost", min_length=1)
    port: int = Field(default=6379, ge=1, le=65_535)
    db: int = Field(default=0, ge=0)
    ttl_seconds: int = Field(default=3600, ge=0, description="0: values stay until they are deleted")
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    tls_ca: Path | None = Field(default=None, description="PEM: whom to trust; unset: whom this machine trusts")
    tls_certificate: Path | None = Field(default=None, description="PEM: ours, where the server asks for one")
    tls_key: Path | None = Field(default=None, description="PEM: its key; unset: it is in tls_certificate")
    timeout_s: float = Field(default=2.0, gt=0)


@dataclass(frozen=True, slots=True)
class TierPlace:
    """Where the objects of one tier are: keys begin with `prefix`, in `bucket` of the backend of that name."""

    tier: TierName
    backend: str
    provider: str
    bucket: str
    prefix: str


class StorageSettings(Section):
    """`tiers`: tier → name of its backend. A tier moves to another provider here and nowhere else.

    `unusable`: name of a backend that nothing uses → what it lacks (its ${VAR} is not set). It is an error only
    when it is asked for, so that an S3 bucket's name needn't be set where every tier is on Azure.
    """

    backends: dict[str, AnyBackend] = Field(default_factory=dict)
    tiers: dict[TierName, str] = Field(default_factory=dict)
    default_backend: str | None = None
    cache: RedisCacheSettings | None = None
    unusable: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> StorageSettings:
        if found := problem_together(self.backends, self.tiers, self.default_backend):
            key, text = found
            raise ValueError(f"{key}: {text}")
        return self

    @classmethod
    def load(
        cls, path: Path | str | None = None, environment: str | None = None, variables: Mapping[str, str] | None = None
    ) -> StorageSettings:
        """Read the file, with its overlay for the environment. Raises SettingsError, one line.

        `path`: else $AKASHA_STORAGE_SETTINGS, ./settings/akasha-storage.yml, the one in the user's configuration
        folder, the one shipped. `environment`: else $AKASHA_ENV, else dev. `variables`: instead of os.environ.
        """
        from akasha_stream.configuration.storage import load_storage

        return load_storage(Path(path) if path is not None else None, environment, variables).settings

    @classmethod
    def local(cls, root: Path) -> StorageSettings:
        """All tiers in folders below `root`: one machine, or a file system that all workers mount."""
        backends: dict[str, AnyBackend] = {
            f"local-{tier}": LocalBackend(bucket_name=tier, root=root, tier=tier) for tier in TIERS
        }
        return cls(backends=backends, tiers={tier: f"local-{tier}" for tier in TIERS})

    @classmethod
    def load_yaml(cls, path: Path | str) -> Any:
        """The guide's `Settings.load_yaml`: what Oneiric's AdapterBridge takes as `settings`, a LayerSettings."""
        from akasha_stream.storage.registration import layer_settings

        return layer_settings(cls.load(path))

    def backend(self, name: str) -> AnyBackend:
        """Raises SettingsError for a name that the file has not, or whose variables are not set."""
        if name in self.backends:
            return self.backends[name]
        if name in self.unusable:
            raise SettingsError(self.unusable[name])
        raise SettingsError(f"storage: no backend {name!r}; known: {', '.join(self.backends) or 'none'}")

    def tier(self, tier: TierName) -> TierPlace:
        """Raises SettingsError for a tier without a backend."""
        name = self.tiers.get(tier)
        if name is None:
            raise SettingsError(f"storage.tiers.{tier}: is missing; allowed: the name of a backend of that tier")
        backend = self.backend(name)
        return TierPlace(tier, name, backend.provider, backend.bucket_name, backend.prefix)

    def redis_cache(self) -> RedisCacheSettings:
        """Raises SettingsError where the file has no cache, or its variables are not set."""
        if self.cache is None:
            raise SettingsError(self.unusable.get(CACHE_NAME, f"storage.{CACHE_NAME}: is missing"))
        return self.cache


def problem_together(
    backends: Mapping[str, Backend], tiers: Mapping[TierName, str], default_backend: str | None
) -> tuple[str, str] | None:
    """The first key that leads nowhere, below `storage`: (key, what is wrong and what is allowed); or None."""
    for tier, name in tiers.items():
        allowed = ", ".join(each for each, backend in backends.items() if backend.tier == tier)
        allowed = f"allowed: {allowed}" if allowed else f"there is no backend with tier: {tier}"
        if name not in backends:
            return f"tiers.{tier}", f"found {name[:_SHOWN]!r}; {allowed}"
        if backends[name].tier != tier:
            return f"tiers.{tier}", f"found {name!r}, whose tier is {backends[name].tier}; {allowed}"
    if default_backend is not None and default_backend not in backends:
        return "default_backend", f"found {default_backend[:_SHOWN]!r}; allowed: {', '.join(backends)}"
    return None
