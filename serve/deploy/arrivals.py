"""What waits for a model's first version joins the running platform once that is there.

Called by `strata up`. preflight says what waits. It is kept with the gateway's application
(applications.deploy_config), so what is found here is what was applied last.
"""

from collections.abc import Mapping
from typing import Any

from serve.config import schema
from serve.config.sections import pool_application
from serve.deploy.applications import GATEWAY
from serve.deploy.changes import members_in, user_config_of, with_user_config
from serve.deploy.ray_api import RayServeApi
from serve.errors import RepositoryError
from serve.repository.repository import configured


def put_in_place(api: RayServeApi) -> dict[str, str | None]:
    """Add to the running platform what it waited for and what has its versions by now.

    Returns in which pool each of it is, by its name. What runs is not touched, and nothing is where
    Ray does not say how all of it is configured. Raises what the API raises.
    """
    configs = api.configs()
    waiting = waiting_in(configs)
    come = [each for each in waiting if _has_come(each)]
    if not come or not all(configs.values()):
        return {}
    stay = [each for each in waiting if each not in come]
    members = [each for each in come if "member" in each]
    running = [
        _with_those_that_came(_now_awaiting(each, stay), members)
        for each in configs.values()
        if each is not None
    ]
    added = [each["application"] for each in come if "application" in each]
    api.deploy({"applications": [*running, *added]})
    return {each["name"]: each.get("pool") for each in come}


def served_in(configs: Mapping[str, Mapping[str, Any] | None]) -> set[str]:
    """Return the names of what a platform serves by its applications' configs, and of these."""
    members = (member for each in configs.values() for member in members_in(each))
    return {*configs, *(member["served"]["name"] for member in members)}


def waiting_in(configs: Mapping[str, Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Return what a platform waits for by its applications' configs, as applications puts it."""
    found: list[dict[str, Any]] = user_config_of(configs.get(GATEWAY)).get("awaited", [])
    return found


def _has_come(waiting: Mapping[str, Any]) -> bool:
    section = schema.Repository.model_validate(waiting["repository"])
    try:
        repository = configured(section)
        return not any(repository.look(model).absence for model in waiting["models"])
    except RepositoryError:  # which may pass
        return False


def _now_awaiting(application: dict[str, Any], waiting: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an application's config; the gateway's with what is waited for from now on."""
    if application["name"] != GATEWAY:
        return application
    user_config = {k: v for k, v in user_config_of(application).items() if k != "awaited"}
    return with_user_config(application, user_config | ({"awaited": waiting} if waiting else {}))


def _with_those_that_came(
    application: dict[str, Any], come: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return an application's config; a pool's with those of its models that have come."""
    more = [
        each["member"] for each in come if pool_application(each["pool"]) == application["name"]
    ]
    if not more:
        return application
    members = [*members_in(application), *more]
    return with_user_config(application, {**user_config_of(application), "members": members})
