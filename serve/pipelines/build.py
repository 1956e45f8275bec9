"""From the config to a pipeline: members by name, nested pipelines, and no circles.

Called by the pipeline's replica, and by `strata apply` to check a file before it is applied.
"""

from collections.abc import Callable, Mapping

from serve.config.pipelines import (
    Cascade,
    Ensemble,
    Exit,
    Member,
    Pipeline,
    Splitter,
    Switch,
    members_of,
    nested_in,
)
from serve.config.pipelines import (
    Sequence as SequenceConfig,
)
from serve.pipelines.cascade import CascadeKind, LayerRule
from serve.pipelines.ensemble import EnsembleKind
from serve.pipelines.layer_metrics import LayerRecorder
from serve.pipelines.member import ColocatedMember
from serve.pipelines.member import Member as BuiltMember
from serve.pipelines.pipeline_engine import Kind, PipelineEngine
from serve.pipelines.sequence import SequenceKind
from serve.pipelines.splitter import SplitterKind
from serve.pipelines.switch import SwitchKind
from serve.pipelines.wiring import Parts

# Gives the member for a model of the repository: (member's label, model, version).
FindModel = Callable[[str, str, int | None], BuiltMember]


def build(
    pipeline: Pipeline, pipelines: Mapping[str, Pipeline], find_model: FindModel
) -> PipelineEngine:
    """Return the engine of a pipeline. Raises ConfigError, RepositoryError.

    `pipelines` are all that are configured, by name: members may be pipelines themselves.
    """
    nested_in(pipeline, pipelines)  # refuses circles
    members = [_member(member, pipelines, find_model, pipeline) for member in members_of(pipeline)]
    parts = Parts(
        where=f"pipelines[{pipeline.name}]",
        members=members,
        wires=[member.inputs for member in members_of(pipeline)],
        layers=LayerRecorder(last=members[-1].label),
    )
    return PipelineEngine(_kind(pipeline, parts), members, parts.layers)


def _member(
    member: Member,
    pipelines: Mapping[str, Pipeline],
    find_model: FindModel,
    around: Pipeline,
) -> BuiltMember:
    nested = pipelines.get(member.model)
    if nested is None:
        return find_model(member.label, member.model, member.version)
    engine = build(nested, pipelines, find_model)
    any_size = range(1, around.batching.max_batch_size + 1)  # the models in it pad
    return ColocatedMember(member.label, engine, any_size)


def _kind(pipeline: Pipeline, parts: Parts) -> Kind:
    match pipeline:
        case SequenceConfig():
            return SequenceKind(parts)
        case Ensemble():
            return EnsembleKind(parts, combine=pipeline.combine)
        case Splitter():
            return SplitterKind(parts, weights=pipeline.weights, key=pipeline.key)
        case Switch():
            # The chooser is the first member, the default the last.
            places = {value: index for index, value in enumerate(pipeline.branches, 1)}
            default = None if pipeline.default is None else len(pipeline.branches) + 1
            return SwitchKind(parts, tensor=pipeline.tensor, branches=places, default=default)
        case Cascade():
            rules = [_rule(layer.exit, layer.deadline_s) for layer in pipeline.layers]
            return CascadeKind(parts, rules=rules, answers_late=pipeline.on_timeout == "answer")


def _rule(exit_rule: Exit | None, deadline_s: float | None) -> LayerRule:
    if exit_rule is None:
        return LayerRule(None, 0.0, None, deadline_s)
    return LayerRule(exit_rule.rule, exit_rule.threshold, exit_rule.output, deadline_s)
