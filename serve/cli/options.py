"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", help="The file that describes the platform.")
]
DEFAULT_CONFIG = Path("strata.yaml")

MeasureKind = Annotated[
    Literal["auto", "binary", "classes", "labels", "regression"],
    typer.Option(
        help="What the labels are: told from them and the outputs, unless one of these is named."
    ),
]
ComparedTensor = Annotated[
    str | None, typer.Option(help="The output that is compared with the labels, if not told.")
]
YesAbove = Annotated[
    float | None,
    typer.Option(
        help="Above which value a binary output says yes: 0.5 of probabilities, 0 of logits."
    ),
]
