"""`strata schema`: the JSON schema of strata.yaml, for editors and checks."""

import json

import typer

from serve.config.schema import json_schema


def schema() -> None:
    """Print the JSON schema of strata.yaml.

    \b
    Example: strata schema > strata.schema.json
    """
    typer.echo(json.dumps(json_schema(), indent=2))
