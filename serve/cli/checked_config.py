"""Check a config against the repository, before anything is started or changed.

Called by `strata up` and `strata apply`.
"""

from collections.abc import Collection

from serve.cli.printing import out
from serve.cli.publish import options_of, try_version
from serve.config.schema import Config
from serve.deploy.edge_settings import require_certificates, require_jwks, require_keys
from serve.deploy.preflight import awaited, check_pipelines, check_versions
from serve.repository.repository import configured


def check(config: Config, running: Collection[str] = ()) -> dict[str, str]:
    """Return what waits for a first version, by name, with the reason; what is doubtful is said.

    What is `running` never waits. Raises ConfigError, also for pipelines that do not fit their
    models, and for versions that the repository does not have.
    """
    require_keys(config)
    require_jwks(config)
    require_certificates(config)
    repository = configured(config.repository)
    waiting = awaited(config, repository, running)
    for doubt in check_versions(config, repository, waiting):
        out.print(f"warning: {doubt}", markup=False)
    check_pipelines(
        config,
        repository,
        lambda model, version: try_version(
            repository.fetch(model, version), model, options_of(config, model)
        )[0],
        waiting,
    )
    return waiting
