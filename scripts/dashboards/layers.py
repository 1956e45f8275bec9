"""Layers: which layer of a pipeline answers, what that saves, how it compares with one model."""

from typing import Any

from dashboards.panels import (
    MONEY,
    Column,
    Panel,
    Query,
    Row,
    Section,
    bars,
    board,
    chart,
    listing,
    number,
    query_variable,
    runbook,
    to_dashboard,
)
from dashboards.prices import cost_of_a_million
from dashboards.promql import everything, increase, of_model, of_version, or_zero, quantile, rate

_V = of_version()
_ROWS = "ray_pipeline_layer_rows_total"
_LAYER = "ray_pipeline_layer_duration_seconds"
_LATENCY = "ray_model_request_duration_seconds"
# Rows that entered the pipeline are those that left it in any way.
_LEFT = 'outcome!="passed"'


def layers() -> dict[str, Any]:
    names = query_variable("model", f"label_values({_ROWS}{everything()}, model)", several=False)
    versions = query_variable(
        "version", f"label_values({_ROWS}{of_model()}, version)", several=True
    )
    beside = query_variable(
        "beside", f"label_values(ray_model_ready{everything()}, model)", several=True
    )
    return board(
        "layers",
        "One pipeline: which layer answers, what that saves, and models beside it.",
        [names, versions, beside.label("Beside")],
        [
            Section("Now", [Row(4, _now())]),
            Section("Exits", [Row(8, _exits())]),
            Section("Latency by layer", [Row(7, _latency())]),
            Section("End-to-end beside layered", [Row(8, _beside())]),
        ],
    )


def _share(outcome: str) -> str:
    part = increase(_ROWS, of_version(f'outcome="{outcome}"'))
    return or_zero(f"{part} / ({increase(_ROWS, of_version(_LEFT))} > 0)")


def _now() -> list[Panel]:
    return [
        number(
            "Rows",
            "rowsps",
            to_dashboard("model"),
            "Rows that left the pipeline a second.",
            Query(or_zero(rate(_ROWS, of_version(_LEFT)))),
        ),
        number(
            "Compute saved",
            "percentunit",
            to_dashboard("cost"),
            "Part of the computation saved against the last layer alone, by measured seconds a"
            " row. Below 0 the layers cost more than they save.",
            Query(or_zero(f"avg(ray_pipeline_compute_saved_ratio{_V})")),
            steps=[(None, "orange"), (0.0, "green")],
        ),
        number(
            "Degraded answers",
            "percentunit",
            runbook("ModelLatencyBudgetBurn"),
            "Part of the rows that a later layer should have answered and was late or failed,"
            " in the time that is shown.",
            Query(_share("degraded")),
            steps=[(None, "green"), (0.001, "orange"), (0.05, "red")],
        ),
        number(
            "Abstained",
            "percentunit",
            runbook("ModelDrift"),
            "Part of the rows that the pipeline refused to answer because they are none of"
            " what it knows, in the time that is shown.",
            Query(_share("abstained")),
        ),
    ]


def _exits() -> list[Panel]:
    left = of_version(_LEFT)
    entered = increase(_ROWS, left)
    return [
        chart(
            "Exits by layer",
            "rowsps",
            to_dashboard("model"),
            "Rows a second that left the pipeline at each layer, in any way.",
            Query(rate(_ROWS, left, "layer"), "{{layer}}"),
            look="stacked",
        ),
        bars(
            "What the layers did",
            "percentunit",
            to_dashboard("model"),
            "Outcomes by layer as part of all rows, in the time that is shown: answered,"
            " passed on, abstained, degraded.",
            Query(
                f"{increase(_ROWS, _V, 'layer, outcome')} / on() group_left() ({entered} > 0)",
                "{{layer}} {{outcome}}",
            ),
        ),
        chart(
            "Compute saved",
            "percentunit",
            to_dashboard("cost"),
            "Part of the computation saved against the last layer alone. It falls when more"
            " rows go on to dear layers.",
            Query(
                f"avg by (version) (ray_pipeline_compute_saved_ratio{_V})", "version {{version}}"
            ),
            look="signed",
        ),
    ]


def _latency() -> list[Panel]:
    return [
        chart(
            "Calls of a layer, p50",
            "s",
            runbook("ModelLatencyBudgetBurn"),
            "Half of the calls of a layer are done within this time.",
            Query(quantile(0.5, _LAYER, _V, "layer"), "{{layer}}"),
        ),
        chart(
            "Calls of a layer, p99",
            "s",
            runbook("ModelLatencyBudgetBurn"),
            "99 of 100 calls of a layer are done within this time.",
            Query(quantile(0.99, _LAYER, _V, "layer"), "{{layer}}"),
        ),
        chart(
            "Degraded and abstained rows",
            "rowsps",
            runbook("ModelLatencyBudgetBurn"),
            "Rows a second that a later layer should have answered and did not in time, and"
            " rows that nobody answered.",
            *(
                Query(or_zero(rate(_ROWS, of_version(f'outcome="{outcome}"'))), outcome)
                for outcome in ("degraded", "abstained")
            ),
        ),
    ]


def _beside() -> list[Panel]:
    both = everything('model=~"$model|$beside"')
    requests = rate("ray_model_requests_total", both, "model")
    engine = f"{rate('ray_model_compute_seconds_total', both, 'model')} / ({requests} > 0)"
    return [
        listing(
            "Side by side",
            to_dashboard("cost"),
            "The pipeline and the models beside it: what a request waits, computes, and costs"
            " on a replica that is never idle. `strata compare` adds the accuracy.",
            ["model"],
            Column("requests", requests, "reqps"),
            Column("p50", quantile(0.5, _LATENCY, both, "model"), "s"),
            Column("p99", quantile(0.99, _LATENCY, both, "model"), "s"),
            Column("engine/request", engine, "s"),
            Column("cost of a million", cost_of_a_million(both), MONEY),
        ),
        chart(
            "Latency, p99",
            "s",
            runbook("ModelLatencyBudgetBurn"),
            "99 of 100 requests are answered within this time, layered and end-to-end.",
            Query(quantile(0.99, _LATENCY, both, "model"), "{{model}}"),
        ),
    ]
