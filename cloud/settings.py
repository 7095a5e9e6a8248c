"""The cloud's settings: a TOML file, overridden by RAILTIX_ variables; a wrong one is named."""

import os
from collections.abc import Mapping
from email.utils import getaddresses
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cloud.access.pace import Pace

CONFIG: Final = Path("/etc/railtix/cloud.toml")
STATE: Final = Path("/var/lib/railtix")
PROVIDER_SECRET_CHARS_MIN: Final = 24
SECRETS_FOLDER: Final = "RAILTIX_SECRETS"
"""The variable that names a folder with a file for each secret."""

PaceText = Annotated[
    Pace, BeforeValidator(lambda said: Pace.read(said) if isinstance(said, str) else said)
]
Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """Settings that cannot be used; the message names each and says what is wrong with it."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(Section):
    host: str = "127.0.0.1"
    port: Port = 8000
    """0: any free port; the ready file says which."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    access_log: bool = True
    """A line a request; no where something in front writes one already."""
    drain_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    """How long it still takes requests once told to stop, while /readyz says 503: a load balancer
    needs that time to look elsewhere."""

    @model_validator(mode="after")
    def _certificate_and_key_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are set together or not at all")
        return self


class MetricsSettings(Section):
    host: str = "127.0.0.1"
    port: Port | None = None
    """/metrics and /readyz over plain HTTP, in every program; unset: nowhere."""


class BrokerSettings(Section):
    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    certificate: Path
    """This worker's own certificate (PEM), whose common name the broker knows as a worker."""
    key: Path
    authorities: Path
    """The certificates (PEM) that the broker's own certificate is checked against."""


class AuthoritySettings(Section):
    """The certificate authority, where this server has it: it enrols, and keeps the CRL fresh."""

    folder: Path
    """As `railtix-ops ca init` founded it; its root key need not be there."""
    passphrase_file: Path | None = None
    """Opens the issuing key; unset: RAILTIX_CA_PASSPHRASE, or the one that `ca init` drew."""
    broker_folder: Path | None = None
    """As `railtix-ops broker config` wrote it; unset: something else hands the CRL over."""
    in_serve: bool = True
    """Whether `serve` keeps the CRL and ends sessions itself; no: run `warden` beside it."""


class AppliancesSettings(Section):
    """The listener where appliances enrol and send requests, by their own certificates."""

    host: str = "127.0.0.1"
    port: Port = 8443
    """0: any free port; the ready file says which."""
    certificate: Path
    """This server's own (PEM), then the issuing one: of the authority that enrols here."""
    key: Path
    authorities: Path | None = None
    """The root (PEM) that appliances' certificates are checked against; unset: `ca.pem` beside the
    certificate."""
    url: AnyHttpUrl | None = None
    """How appliances reach it, `https://HOST:PORT`; unset: the address it listens on."""
    broker_host: str | None = None
    """What an enrolled appliance is told; unset: as this server reaches the broker."""
    broker_port: Annotated[int, Field(ge=1, le=65535)] | None = None

    @model_validator(mode="after")
    def _url_is_host_and_port(self) -> Self:
        url = self.url
        if url is not None and (url.scheme != "https" or url.path not in {None, "", "/"}):
            raise ValueError("url is https://HOST:PORT, and no more")
        return self


class PaymentSettings(Section):
    provider: Literal["test", "stripe"] | None = None
    """`test`: the built-in card page, where nobody pays, for demos and tests. Unset: no cards."""
    webhook_secret: SecretStr | None = None
    """What the test provider signs its webhooks with; it makes one up when unset."""
    stripe_secret_key: SecretStr | None = None
    """`sk_...`, or a restricted key `rk_...`: docs/cards.md says what it must be allowed."""
    stripe_webhook_secret: SecretStr | None = None
    """`whsec_...`, of the endpoint that Stripe tells: `/v1/webhooks/stripe`."""

    @model_validator(mode="after")
    def _secrets_fit(self) -> Self:
        secret = self.webhook_secret
        if secret is not None and len(secret.get_secret_value()) < PROVIDER_SECRET_CHARS_MIN:
            raise ValueError(f"webhook_secret needs {PROVIDER_SECRET_CHARS_MIN} characters")
        keys = {
            "stripe_secret_key": (self.stripe_secret_key, ("sk_", "rk_")),
            "stripe_webhook_secret": (self.stripe_webhook_secret, ("whsec_",)),
        }
        for name, (key, prefixes) in keys.items():
            if (key is not None) != (self.provider == "stripe"):
                raise ValueError(f'{name} is set with provider = "stripe", and only then')
            if key is not None and not key.get_secret_value().startswith(prefixes):
                raise ValueError(f"{name} begins with {' or '.join(prefixes)}")
        return self


class MailSettings(Section):
    kind: Literal["files", "smtp"] = "files"
    """`files`: each letter is a file in the state folder, for demos; `smtp`: a mail server."""
    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    """`tls`: from the first byte on (port 465); `none`: for a server on this very machine."""
    authorities: Path | None = None
    """The certificates (PEM) that the server's own is checked against; unset: the system's."""
    user: str | None = None
    password: SecretStr | None = None
    sender: str = "RailTix Credits <no-reply@localhost>"
    deadline_s: Annotated[float, Field(gt=0, le=120)] = 15.0
    """For each answer of the server."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password are set together or not at all")
        if self.password is not None and self.security == "none":
            raise ValueError("a password needs starttls or tls")
        named = getaddresses([self.sender])
        is_one = len(named) == 1 and named[0][1].count("@") == 1
        if not (is_one and self.sender.isprintable() and self.sender.isascii()):
            raise ValueError("sender is `Name <address@domain>`, in ASCII")
        return self


class LimitSettings(Section):
    """How often, as `60/minute`: so many at once, refilled evenly over the time."""

    codes: PaceText = Pace(60, 60)
    """Sign-in codes asked for, from one client address."""
    sign_in_failures: PaceText = Pace(30, 60)
    """Wrong links, codes and passwords, from one client address."""
    token_failures: PaceText = Pace(120, 60)
    """Unknown or ended sessions and access tokens, from one client address."""
    pos_failures: PaceText = Pace(60, 60)
    """Requests under /v1/pos that no appliance of ours signed, from one client address."""
    enrolment_failures: PaceText = Pace(30, 60)
    """Wrong claims, and requests for certificates that cannot be used, from one client address."""
    webhook_failures: PaceText = Pace(60, 60)
    """Webhooks that are not believed, from one client address."""
    wallet_qr: PaceText = Pace(60, 60)
    """Payment codes for one attendee."""
    streams_max: Annotated[int, Field(ge=1, le=1000)] = 4
    """Open streams of wallet changes for one attendee."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of proxies whose X-Forwarded-For is believed; none: the header is ignored."""


class CourierSettings(Section):
    in_serve: bool = True
    """Whether `serve` carries letters and card refunds itself; no: run `courier` beside it."""
    interval_s: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """How long it rests when nothing was left to do."""


class AuditSettings(Section):
    in_serve: bool = True
    """Whether `serve` takes records into the tree itself; no: run `sequencer` beside it."""
    checkpoint_every_s: Annotated[float, Field(ge=0.05, le=300)] = 5.0
    """How often what is new goes into the tree, under a signed checkpoint."""
    checkpoint_file: Path | None = None
    """The newest checkpoint, out of the database's reach; default: in the state folder."""


class UpdatesSettings(Section):
    """Bundles that appliances are updated by: where they lie, how fast they are handed out."""

    folder: Path | None = None
    """Whole bundles and drafts of them, shared by every process that serves HTTP; unset:
    `updates` in the state folder."""
    bundle_megabytes_max: Annotated[int, Field(ge=1, le=4096)] = 2048
    fetches_max: Annotated[int, Field(ge=1, le=1000)] = 16
    """Appliances that fetch at once, in each process; the others ask again."""
    megabytes_per_s: Annotated[float, Field(gt=0, le=10_000)] = 25.0
    """For all of them together, in each process: sales go over the same line."""


class Settings(BaseSettings):
    """Sections of the file; `RAILTIX_HTTP__PORT=8080` overrides `port` under `[http]`."""

    model_config = SettingsConfigDict(
        env_prefix="RAILTIX_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    state: Path = STATE
    """Where the keys live, and the database unless it has an address."""
    database: SecretStr | None = None
    """`postgresql://...` or `sqlite:///PATH`; default: SQLite in the state folder."""
    public_url: AnyHttpUrl | None = None
    """How attendees reach this server; default: the address it listens on."""
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
    broker: BrokerSettings | None = None
    """Needed by `worker`; without it `serve` takes requests over HTTPS alone."""
    authority: AuthoritySettings | None = None
    """Without it nobody enrols here, and the CRL is kept by hand."""
    appliances: AppliancesSettings | None = None
    """Without it `serve` and `api` have no listener of the appliances' own."""
    payments: PaymentSettings = PaymentSettings()
    mail: MailSettings = MailSettings()
    courier: CourierSettings = CourierSettings()
    limits: LimitSettings = LimitSettings()
    audit: AuditSettings = AuditSettings()
    updates: UpdatesSettings = UpdatesSettings()

    @property
    def database_url(self) -> str:
        """It may hold a password: never log it."""
        if self.database is None:
            return f"sqlite:///{self.state / 'cloud.sqlite'}"
        return self.database.get_secret_value()

    @property
    def mail_folder(self) -> Path:
        """Where letters are files, for `mail.kind = "files"`."""
        return self.state / "mail"

    @property
    def checkpoint_file(self) -> Path:
        return self.audit.checkpoint_file or self.state / "audit" / "checkpoint.jws"

    @property
    def updates_folder(self) -> Path:
        return self.updates.folder or self.state / "updates"

    @property
    def keys_folder(self) -> Path:
        return self.state / "keys"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line first, then variables, then files of secrets, then the file."""
        del dotenv_settings, file_secret_settings
        return (
            init_settings,
            env_settings,
            secret_files(settings_cls),
            TomlConfigSettingsSource(settings_cls),
        )


def read_settings(config: Path | None, **overrides: object) -> Settings:
    """Settings from `config`, or from /etc/railtix/cloud.toml where there is one.

    `overrides` that are not None win over everything. Raises SettingsError.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"no settings file {config}")
    _refuse_unknown_variables()
    model = of_file(config)
    try:
        return model.model_validate(model(**given_only(overrides)))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except ValueError as error:
        raise SettingsError(f"{config or CONFIG}: {error}") from error


def of_file(config: Path | None) -> type[Settings]:
    """The settings, reading this file or the usual one."""

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config or CONFIG)

    return FromFile


def given_only(overrides: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in overrides.items() if value is not None}


def secret_files(settings: type[BaseSettings]) -> NestedSecretsSettingsSource:
    """A file a setting, named as `payments__stripe_secret_key`: containers' secrets, and systemd's
    credentials."""
    folder = os.environ.get(SECRETS_FOLDER) or os.environ.get("CREDENTIALS_DIRECTORY")
    return NestedSecretsSettingsSource(
        SecretsSettingsSource(settings),
        secrets_dir=folder,
        secrets_dir_missing="ok",
        secrets_prefix="",
        secrets_nested_delimiter="__",
    )


def _refuse_unknown_variables() -> None:
    """A misspelt section in a variable would otherwise be passed over in silence."""
    known = {name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        section, nested, _ = name.removeprefix("RAILTIX_").partition("__")
        if name.startswith("RAILTIX_") and nested and section.upper() not in known:
            raise SettingsError(f"{name}: there is no such setting")


def _explain(error: ValidationError) -> str:
    """One line a setting, without its value: that may be a secret."""
    lines: list[str] = []
    for each in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in each["loc"]) or "settings"
        problem = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            problem = "there is no such setting"
        lines.append(f"{name}: {problem}")
    return "\n".join(lines)
