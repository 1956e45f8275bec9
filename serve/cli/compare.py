"""`strata compare`: models and pipelines side by side, on data that they have not seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve.cli.options import DEFAULT_CONFIG, ComparedTensor, ConfigPath, MeasureKind, YesAbove
from serve.cli.printing import out, print_table, progress_bar
from serve.config.file import load
from serve.evaluation.comparison import Compared, parse_references
from serve.evaluation.comparison import compare as compare_all
from serve.evaluation.dataset import HELD_OUT
from serve.evaluation.quality import Asked
from serve.repository.repository import configured

_COLUMNS = (
    "ENGINE", "ROWS/S", "P50\nMS", "P99\nMS", "PARAMS", "FLOPS\n/ROW", "MB", "COST\n/M",
)  # fmt: skip
_SHORT = {"onnxruntime": "onnx"}
_WORTH = 0.02  # savings below that are chance


def compare(
    names: Annotated[
        list[str],
        typer.Argument(help="Models and pipelines: NAME, NAME@VERSION, or NAME@all."),
    ],
    data: Annotated[
        str, typer.Option(help="'held-out' for reference models, or an .npz with 'label'.")
    ] = HELD_OUT,
    output: Annotated[Path, typer.Option(help="Folder for the figures and pictures.")] = Path(
        "compare"
    ),
    measure: MeasureKind = "auto",
    tensor: ComparedTensor = None,
    yes_above: YesAbove = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Compare accuracy, speed, size and cost on the same labelled data.

    What is measured is told from the outputs and the labels, and printed below the table: binary,
    classes, several labels (a row is right if all are), or regression (MAE and RMSE).

    Each one computes in a process of its own, with the engine and the threads that a replica on
    this machine has. ROWS/S is at 32 rows a call, the percentiles are of calls of one row, COST/M
    is a million requests of one row on a busy replica at the prices of the file. Below the table:
    what another engine or a pool would save. Versions that learned from different numbers of labels
    (strata train digits-layerwise) are also drawn against these.

    \b
    Examples:
      strata compare digits digits-layered digits-large --data held-out
      strata compare digits-layerwise@all digits-end-to-end@all
    """
    tree = load(config)
    repository = configured(tree.repository)
    references = parse_references(names, repository)
    with progress_bar("comparing") as progress:
        asked = Asked(measure, tensor, yes_above)
        compared = compare_all(tree, config, references, data, asked, progress)
    names = list(dict.fromkeys(row.figures.figure for row in compared if row.figures.figure))
    figure = names[0].upper().replace(" ", "\n") if len(names) == 1 else "MEASURED"
    print_table(
        ("MODEL", figure, *_COLUMNS), [_row(row, is_named=len(names) > 1) for row in compared]
    )
    for line in (*_measures(compared), *filter(None, map(_moves, compared))):
        out.print(line, markup=False)
    output.mkdir(parents=True, exist_ok=True)
    document = {"data": data, "compared": [row.to_json() for row in compared]}
    (output / "compare.json").write_text(json.dumps(document, indent=2) + "\n")
    pictures = _draw(compared, output)
    out.print(f"saved {', '.join(['compare.json', *pictures])} in {output}/", markup=False)


def _measures(compared: Sequence[Compared]) -> list[str]:
    """Return a line for each way in which something was measured, with those it is said of."""
    by_line: dict[str, list[str]] = {}
    for row in compared:
        more = [f"{name} {_value(name, value)}" for name, value in row.figures.figures.items()]
        said = row.figures.measure + (f" ({', '.join(more)})" if len(more) > 1 else "")
        by_line.setdefault(said, []).append(row.reference.text)
    return [f"{', '.join(names)}: {said}" for said, names in by_line.items()]


def _moves(row: Compared) -> str:
    """Say what a million requests cost by each engine, and what a model would take in a pool."""
    figures, said = row.figures, []
    serves = "+".join(figures.engines)
    if serves in row.by_engine and len(row.by_engine) > 1:
        costs = ", ".join(f"{name} {cost:.4f}" for name, cost in sorted(row.by_engine.items()))
        said.append(f"a million requests in full batches cost by {costs}; {_move(row, serves)}")
    if figures.added_mb is not None:
        added, own = f"{max(figures.added_mb, 1):.0f} MB to the others", f"{figures.memory_mb:.0f}"
        said.append(
            f"in a pool it would add {added} instead of {own} of its own"
            if row.pool is None
            else f"in its pool '{row.pool}' it adds {added} instead of {own} of its own"
        )
    return f"{row.reference.text}: {'; '.join(said)}" if said else ""


def _move(row: Compared, serves: str) -> str:
    """Say what the cheapest engine would save, and how to have it."""
    cheapest = min(row.by_engine, key=row.by_engine.__getitem__)
    saved = 1 - row.by_engine[cheapest] / row.by_engine[serves]
    if saved < _WORTH:
        return f"no other is {_WORTH:.0%} cheaper"
    # Only the files of the engine that was chosen are kept; TensorFlow needs none.
    how = "" if cheapest == "tensorflow" else f" and strata engines {row.reference.name}"
    return f"engine: {cheapest}{how} would save {saved:.0%}"


def _value(name: str, value: float) -> str:
    return f"{value:.4g}" if name in {"MAE", "RMSE"} else f"{value:.1%}"


def _row(row: Compared, *, is_named: bool) -> tuple[str, ...]:
    figures = row.figures
    name = figures.figure
    value = figures.accuracy if name is None else figures.figures.get(name, figures.accuracy)
    shown = "-" if name is None or value is None else _value(name, value)
    return (
        row.reference.text,
        f"{name} {shown}" if is_named and name else shown,
        "+".join(_SHORT.get(each, each) for each in figures.engines) or "-",
        f"{figures.rows_per_s:,.0f}",
        _ms(figures.median_ms, 2),
        _ms(figures.p99_ms, 1),
        _with_unit(figures.parameters),
        "-" if figures.flops is None else _with_unit(figures.flops),
        f"{figures.memory_mb:.0f}",
        f"{row.cost:.4f}",
    )


def _ms(milliseconds: float, digits: int) -> str:
    return f"{milliseconds:.{digits}f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _with_unit(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def _draw(compared: Sequence[Compared], folder: Path) -> list[str]:
    from serve.evaluation.plots import plot_accuracy_against_labels, plot_figure_against_cost

    plot_figure_against_cost(compared, folder / "compare.png")
    right = [row for row in compared if row.figures.accuracy is not None]
    if len({row.figures.labels for row in right} - {None}) < 2:
        return ["compare.png"]
    plot_accuracy_against_labels(compared, folder / "labels.png")
    return ["compare.png", "labels.png"]
