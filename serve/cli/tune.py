"""`strata tune`: choose a cascade's thresholds by accuracy and cost, and write them to the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from serve.cli.options import DEFAULT_CONFIG, ComparedTensor, ConfigPath, MeasureKind, YesAbove
from serve.cli.printing import out, print_table, progress_bar, quiet_tensorflow
from serve.config.edit import replace_value
from serve.config.file import load
from serve.config.pipelines import Cascade
from serve.config.schema import Config
from serve.errors import ConfigError, InvalidRequest
from serve.evaluation.cascade_layers import LayerPredictions, layer_predictions
from serve.evaluation.dataset import HELD_OUT
from serve.evaluation.measure import dataset_for
from serve.evaluation.quality import Asked, Measure
from serve.evaluation.subject import Reference, load_subject
from serve.evaluation.thresholds import TUNED, Point, candidates, choose, evaluate, last_alone
from serve.repository.repository import configured
from serve.types import Array

_SEED = 0


def tune(
    pipeline: Annotated[str, typer.Argument(help="Name of a cascade in the file.")],
    data: Annotated[
        str, typer.Option(help="An .npz with 'label', or 'held-out' for reference models.")
    ] = HELD_OUT,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="The cheapest that is so accurate (0..1).")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="The best that costs so much a million requests.")
    ] = None,
    measure: MeasureKind = "auto",
    tensor: ComparedTensor = None,
    yes_above: YesAbove = None,
    write: Annotated[bool, typer.Option(help="Write the thresholds into the file.")] = True,
    output: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("tune"),
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Choose the thresholds of a cascade on one half of the data and verify them on the other.

    Every layer computes all rows once; then thresholds are tried on its answers. The chosen ones
    are written into the file, its comments stay; strata apply brings them to a running platform.
    They are not written if the second half does not confirm them, or if the last layer alone is at
    least as good for what it costs: then this is said, and the file stays as it is.

    \b
    Examples:
      strata tune digits-layered --data held-out --min-accuracy 0.985
      strata tune digits-layered --data labelled.npz --max-cost 0.002
    """
    if (min_accuracy is None) == (max_cost is None):
        raise InvalidRequest("give either --min-accuracy or --max-cost")
    tree = load(config)
    cascade = _cascade(tree, pipeline)
    asked = Asked(measure, tensor, yes_above)
    layers, told, rows = _compute_layers(tree, cascade, data, asked)
    first, second = _halves(rows)
    calibration = [layer.rows(first) for layer in layers]
    verification = [layer.rows(second) for layer in layers]
    combinations = candidates(calibration)
    points = [evaluate(calibration, each) for each in combinations]
    alone = last_alone(verification)
    chosen = choose([*points, last_alone(calibration)], min_accuracy, max_cost)
    is_alone = not chosen.thresholds
    confirmed = alone if is_alone else evaluate(verification, chosen.thresholds)
    print_table(
        ("", told.figure.upper(), "COST/M", *(f"BY {layer.label}" for layer in layers)),
        [
            _row("chosen on the first half", chosen),
            _row("on the second half", confirmed),
            _row("the last layer alone", last_alone(layers)),
        ],
    )
    out.print(f"measured as {told.text}", markup=False)
    output.mkdir(parents=True, exist_ok=True)
    picture = output / f"{pipeline}.png"
    everywhere = [evaluate(verification, each) for each in combinations]
    from serve.evaluation.plots import plot_sweep

    title = f"thresholds of {pipeline}"
    plot_sweep(title, told.figure, points, everywhere, (chosen, confirmed), picture)
    out.print(f"saved {picture}", markup=False)
    _require_confirmed(told.figure, confirmed, min_accuracy, max_cost)
    if is_alone or _is_no_worse(alone, confirmed):
        out.print(_better_alone(cascade, alone, is_alone, points), markup=False)
        return
    _print_and_write(config, tree, cascade, chosen.thresholds, write)


def _cascade(tree: Config, name: str) -> Cascade:
    found = next((pipeline for pipeline in tree.pipelines if pipeline.name == name), None)
    cascades = [p.name for p in tree.pipelines if isinstance(p, Cascade)]
    if not isinstance(found, Cascade):
        raise ConfigError(f"'{name}' is no cascade of the file (it has: {', '.join(cascades)})")
    return found


def _compute_layers(
    tree: Config, cascade: Cascade, data: str, asked: Asked
) -> tuple[list[LayerPredictions], Measure, int]:
    repository = configured(tree.repository)
    with progress_bar(f"tuning {cascade.name}") as progress:
        progress(0.1, "loading the layers")
        with quiet_tensorflow():
            subject = load_subject(tree, repository, Reference(cascade.name))
        dataset = dataset_for(data, subject)
        progress(0.4, f"computing {len(dataset):,} rows in every layer")
        layers, told = layer_predictions(subject, tree.prices, dataset, asked)
        progress(1.0, "done")
    return layers, told, len(dataset)


def _halves(rows: int) -> tuple[Array, Array]:
    """Return the indices of two random halves, the same ones each time."""
    order = np.random.default_rng(_SEED).permutation(rows)
    return order[: rows // 2], order[rows // 2 :]


def _is_no_worse(one: Point, other: Point) -> bool:
    return one.accuracy >= other.accuracy and one.cost <= other.cost


def _better_alone(cascade: Cascade, alone: Point, is_alone: bool, points: Sequence[Point]) -> str:
    last = cascade.layers[-1].label
    said = (
        f"not written: the last layer alone, {last}, has {alone.accuracy:.2%} at {alone.cost:.3g} "
        f"on the second half"
    )
    if not is_alone:
        return (
            f"{said}, and the chosen thresholds are neither better nor cheaper; serve it by itself"
        )
    best = max(points, key=lambda point: (point.accuracy, -point.cost))
    return (
        f"{said}, and no thresholds are a better choice (the most accurate: {best.accuracy:.2%} at "
        f"{best.cost:.3g}); serve it by itself"
    )


def _row(name: str, point: Point) -> tuple[str, ...]:
    shares = (f"{share:.1%}" for share in point.exits)
    return (name, f"{point.accuracy:.2%}", f"{point.cost:.3g}", *shares)


def _require_confirmed(
    figure: str, confirmed: Point, min_accuracy: float | None, max_cost: float | None
) -> None:
    if min_accuracy is not None and confirmed.accuracy < min_accuracy:
        raise InvalidRequest(
            f"not written: on the second half the {figure} is {confirmed.accuracy:.2%}, below "
            f"{min_accuracy:.2%}; ask for less, or bring more data"
        )
    if max_cost is not None and confirmed.cost > max_cost:
        raise InvalidRequest(
            f"not written: on the second half the cost is {confirmed.cost:.3g}, above "
            f"{max_cost:g}; allow more, or bring more data"
        )


def _print_and_write(
    path: Path, tree: Config, cascade: Cascade, thresholds: Sequence[float], write: bool
) -> None:
    text = path.read_text(encoding="utf-8")
    place = tree.pipelines.index(cascade)
    tuned = [i for i, layer in enumerate(cascade.layers) if layer.exit and layer.exit.rule in TUNED]
    for index, threshold in zip(tuned, thresholds, strict=True):
        rule = cascade.layers[index].exit
        assert rule is not None
        keys = ("pipelines", place, "layers", index, "exit", rule.rule)
        text = replace_value(text, keys, threshold)
        label = cascade.layers[index].label
        out.print(f"layer {label}: {rule.rule} {threshold:g} (was {rule.threshold:g})")
    if write:
        path.write_text(text, encoding="utf-8")
        out.print(f"written to {path}; strata apply brings it to a running platform", markup=False)
