"""`strata keys`: who may use the platform."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Protocol

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import err, out, print_table
from serve.config.file import load
from serve.deploy.key_file import KeyFile
from serve.edge.keys import Key, new_key, new_secret
from serve.errors import ConfigError

keys = typer.Typer(
    name="keys",
    help="Make, list, revoke and rotate the API keys of clients.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Keys of a release on a cluster, in this namespace."),
]
Release = Annotated[str | None, typer.Option(help="The Helm release; left out where there is one.")]
_DURATION = re.compile(r"(\d{1,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Keys(Protocol):
    """Where keys are kept: KeyFile, KeySecret."""

    @property
    def place(self) -> str: ...

    def read(self) -> tuple[Key, ...]: ...

    def change(
        self,
        change: Callable[[tuple[Key, ...]], tuple[Key, ...]],
        action: str,
        ids: tuple[str, ...],
    ) -> None: ...


@keys.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is.")],
    models: Annotated[
        str | None, typer.Option(help="Models that it opens, with commas; every one if left out.")
    ] = None,
    scope: Annotated[
        Literal["infer", "admin"],
        typer.Option(help="infer asks models; admin also sees and changes the platform."),
    ] = "infer",
    expires: Annotated[
        str | None, typer.Option(help="After how long it is over, such as 90d or 12h; never.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    namespace: Namespace = None,
    release: Release = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept.

    \b
    Examples: strata keys create --tenant web
              KEY=$(strata keys create --tenant lab --models digits,language --expires 90d)
    """
    where = _keys(config, namespace, release)
    secret = new_secret()
    names = None if models is None else [name.strip() for name in models.split(",")]
    key = new_key(secret, tenant, scope, names, _after(expires))
    where.change(lambda before: (*before, key), "create", (key.id,))
    _print_new(secret, key, where)


@keys.command("list")
def list_(
    config: ConfigPath = DEFAULT_CONFIG, namespace: Namespace = None, release: Release = None
) -> None:
    """List the keys: whose they are and what they open.

    \b
    Example: strata keys list
    """
    where = _keys(config, namespace, release)
    found = where.read()
    if not found:
        out.print(f"{where.place} has no keys; strata keys create --tenant NAME makes one")
        return
    now = datetime.now(UTC)
    rows = [_row(key, now) for key in found]
    print_table(("KEY", "TENANT", "SCOPE", "CREATED", "EXPIRES", "STATE", "MODELS"), rows)


@keys.command()
def revoke(
    key: Annotated[list[str], typer.Argument(help="Ids of keys, as `strata keys list` has them.")],
    config: ConfigPath = DEFAULT_CONFIG,
    namespace: Namespace = None,
    release: Release = None,
) -> None:
    """Take keys away; every node refuses them within seconds.

    \b
    Example: strata keys revoke 3f2a9c01
    """
    where = _keys(config, namespace, release)
    ids = tuple(key)
    where.change(lambda before: _without(before, ids, where), "revoke", ids)
    out.print(f"revoked {', '.join(ids)}", markup=False)


@keys.command()
def rotate(
    key: Annotated[str, typer.Argument(help="Id of the key that another one takes the place of.")],
    grace: Annotated[str, typer.Option(help="For how long the old one goes on to be good.")] = "1d",
    config: ConfigPath = DEFAULT_CONFIG,
    namespace: Namespace = None,
    release: Release = None,
) -> None:
    """Make a key in place of another one, which is good for a while yet.

    \b
    Example: strata keys rotate 3f2a9c01 --grace 12h
    """
    where = _keys(config, namespace, release)
    rotation = _Rotation(key, new_secret(), datetime.now(UTC) + _duration(grace), where)
    where.change(rotation, "rotate", (key,))
    _print_new(rotation.secret, rotation.made[-1], where)
    err.print(f"[dim]{key} is good until {_time(rotation.until)}[/dim]")


class _Rotation:
    """Puts a new key beside an old one, which is over soon."""

    def __init__(self, old: str, secret: str, until: datetime, where: Keys) -> None:
        self.secret, self.until = secret, until
        self._old, self._where = old, where
        self.made: list[Key] = []

    def __call__(self, before: tuple[Key, ...]) -> tuple[Key, ...]:
        _require_known(before, (self._old,), self._where)
        (old,) = (key for key in before if key.id == self._old)
        lifetime = None if old.expires is None else old.expires - old.created
        expires = None if lifetime is None else datetime.now(UTC) + lifetime
        new = new_key(self.secret, old.tenant, old.scope, old.models, expires)
        self.made.append(new)
        until = min(filter(None, (old.expires, self.until)))
        ending = old.model_copy(update={"expires": until.replace(microsecond=0)})
        return (*(ending if key.id == old.id else key for key in before), new)


def _keys(config: Path, namespace: str | None, release: str | None) -> Keys:
    if namespace is not None:
        return _of_release(namespace, release)
    if release is not None:
        raise ConfigError("--release is of a cluster; give its --namespace too")
    path = load(config).access.keys
    if path is None:
        raise ConfigError(
            f"{config} says of no keys; add `access: {{keys: keys.json}}` to it, and "
            "`strata apply` if the platform runs"
        )
    return KeyFile(Path(path))


def _of_release(namespace: str, release: str | None) -> Keys:
    from serve.cluster.connection import connect  # brings the kubernetes client
    from serve.cluster.helm import read_release, values
    from serve.cluster.key_secret import KeySecret
    from serve.cluster.snapshot_reader import choose_release

    connection = connect()
    name = choose_release(connection, namespace, release)
    secret = values(read_release(name, namespace)).get("accessKeys", {}).get("existingSecret")
    if not secret:
        raise ConfigError(
            f"the release '{name}' has no keys; upgrade it with --set accessKeys.existingSecret="
            "NAME, which `strata keys create` then makes"
        )
    return KeySecret(connection, namespace, secret, name)


def _without(before: tuple[Key, ...], ids: tuple[str, ...], where: Keys) -> tuple[Key, ...]:
    _require_known(before, ids, where)
    return tuple(key for key in before if key.id not in ids)


def _require_known(before: tuple[Key, ...], ids: tuple[str, ...], where: Keys) -> None:
    for name in set(ids) - {key.id for key in before}:
        raise ConfigError(f"{where.place} has no key '{name}'; strata keys list shows the ids")


def _after(duration: str | None) -> datetime | None:
    if duration is None:
        return None
    return (datetime.now(UTC) + _duration(duration)).replace(microsecond=0)


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise ConfigError(f"'{text}' is no time to come; write such as 90d, 12h or 30m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _print_new(secret: str, key: Key, where: Keys) -> None:
    err.print(
        f"[dim]key {key.id} of tenant {key.tenant}, in {where.place}; it is shown this once[/dim]"
    )
    print(secret)


def _row(key: Key, now: datetime) -> tuple[str, ...]:
    return (
        key.id,
        key.tenant,
        key.scope,
        _time(key.created),
        "never" if key.expires is None else _time(key.expires),
        "expired" if key.is_over(now) else "valid",
        "all" if key.models is None else ", ".join(key.models),
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
