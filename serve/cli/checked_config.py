"""Read a config and check it against the repository, before anything is started or changed.

Called by `strata up` and `strata apply`.
"""

from pathlib import Path

from serve.cli.printing import out
from serve.cli.publish import options_of, try_version
from serve.config.file import load
from serve.config.schema import Config
from serve.deploy.preflight import check_pipelines, check_versions
from serve.repository.repository import configured


def load_checked(path: Path) -> Config:
    """Return the config; what is doubtful is said.

    Raises ConfigError, also for pipelines that do not fit their models, and for versions that the
    repository does not have.
    """
    tree = load(path)
    repository = configured(tree.repository)
    for doubt in check_versions(tree, repository):
        out.print(f"warning: {doubt}", markup=False)
    check_pipelines(
        tree,
        repository,
        lambda model, version: try_version(
            repository.fetch(model, version), model, options_of(tree, model)
        )[0],
    )
    return tree
