"""What a new deploy config changes of the applications that run, in words and before it happens.

Called by `strata apply`. What runs is what Ray Serve says it was last given, which may be another
file than the one before.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serve.deploy.applications import GATEWAY

# Settings of Ray Serve by the keys of strata.yaml that they are made of.
_KEYS = {"num_replicas": "autoscaling", "autoscaling_config": "autoscaling"}
_DERIVED = {"name", "served", "max_ongoing_requests", "user_config", "max_replicas"}


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a model or pipeline; `keys` differ, and `restarts` its replicas if true."""

    name: str
    word: str
    keys: tuple[str, ...] = ()
    restarts: bool = False

    @property
    def text(self) -> str:
        """The change in words, such as `changed version_labels`."""
        more = "; its replicas start anew" if self.restarts else ""
        return f"{self.word} {', '.join(self.keys)}".rstrip() + more


def changes(
    running: Mapping[str, Mapping[str, Any] | None], deploy_config: Mapping[str, Any]
) -> list[Change]:
    """Return what becomes of each model, by name; `running` has the configs as Ray Serve has them.

    One that is None is not known and counts as changed. The gateway is nobody's model; a pool is
    told of by the name of its application, apart from its models.
    """
    old = dict(each for item in running.items() for each in _with_members(*item))
    applications = ((each["name"], each) for each in deploy_config["applications"])
    new = dict(each for item in applications for each in _with_members(*item))
    names = sorted({*old, *new} - {GATEWAY})
    return [_change(name, name in old, old.get(name), new.get(name)) for name in names]


def _with_members(
    name: str, application: Mapping[str, Any] | None
) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yield an application; of a pool also each of its models, as if it were one."""
    pool = ((application or {}).get("args") or {}).get("pool")
    if application is None or pool is None:
        yield name, application
        return
    for member in members_in(application):
        own = {"pool": pool["name"], **member["served"], **member}
        yield member["served"]["name"], {"deployments": [{"user_config": own}]}
    settings = {k: v for k, v in user_config_of(application).items() if k != "members"}
    yield name, with_user_config(application, settings)


def members_in(application: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what an application's config says of the models of its pool; none where it is none."""
    found: list[dict[str, Any]] = user_config_of(application).get("members", [])
    return found


def user_config_of(application: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the user_config of an application's one deployment; empty where it has none."""
    (deployment, *_) = (application or {}).get("deployments") or [{}]
    return deployment.get("user_config") or {}


def with_user_config(
    application: Mapping[str, Any], user_config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an application's config with another user_config."""
    (deployment, *_) = application["deployments"]
    return {**application, "deployments": [{**deployment, "user_config": user_config}]}


def _change(
    name: str, is_running: bool, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> Change:
    if not is_running:
        return Change(name, "added")
    if new is None:
        return Change(name, "removed")
    if old is None:
        return Change(name, "changed")
    flat_old, flat_new = _flat(old), _flat(new)
    if _pool(flat_old) != _pool(flat_new):  # what else differs says where it is told, not what
        return Change(name, "changed", ("pool",), restarts=True)
    keys = tuple(sorted({_KEYS.get(key, key) for key in _different(flat_old, flat_new)}))
    restarts = _of_replicas(old) != _of_replicas(new)
    if keys or restarts:
        return Change(name, "changed", keys, restarts)
    return Change(name, "unchanged")


def _pool(flat: Mapping[str, Any]) -> str | None:
    """Return the name of the pool that a model is in; that of a pool has its settings there."""
    pool = flat.get("pool")
    return pool if isinstance(pool, str) else None


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    return (key for key in {*old, *new} if old.get(key) != new.get(key))


def _flat(application: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the keys of strata.yaml, those left out that others decide."""
    args = application.get("args") or {}
    (deployment, *_) = application.get("deployments") or [{}]
    found = {
        **(args.get("served") or {}),
        **{key: value for key, value in args.items() if key != "served"},
        **(deployment.get("user_config") or {}),
        **deployment,
    }
    return {key: value for key, value in found.items() if key not in _DERIVED}


def _of_replicas(application: Mapping[str, Any]) -> list[Any]:
    """Return what replicas are started with: another one of these starts all of them anew."""
    (deployment, *_) = application.get("deployments") or [{}]
    keys = ("import_path", "runtime_env", "args")
    return [*(application.get(key) for key in keys), deployment.get("ray_actor_options")]
