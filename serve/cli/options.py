"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", help="The file that describes the platform.")
]
DEFAULT_CONFIG = Path("strata.yaml")
