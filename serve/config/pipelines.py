"""The `pipelines:` of `strata.yaml`: how models are put together.

Branches of the tree in schema; built into engines by pipelines.build. Each kind is a section of
its own, told apart by `kind`. Whatever does not need a model's signature is checked here.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from serve.config.sections import Name, Section, Served, Version
from serve.errors import ConfigError

_REQUEST = "request"  # what wires call the request; no member may be called so
_LARGEST_ENTROPY = math.log(2) * 64  # of more classes than any model has


class Member(Section):
    """A model or another pipeline inside a pipeline."""

    model: Name = Field(description="name of a model in the repository, or of another pipeline")
    version: Version | None = Field(None, description="a version; the newest if left out")
    name: Name | None = Field(None, description="name within the pipeline; the model's if left out")
    inputs: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "wires, the model's input: where it comes from, `request.<tensor>` or "
            "`<earlier member>.<output>`; left out, tensors of the same name, or the only one"
        ),
    )

    @property
    def label(self) -> str:
        """What the pipeline calls this member."""
        return self.name or self.model


class Exit(Section):
    """When a row is answered by a layer and goes no further; exactly one rule."""

    max_probability: float | None = Field(
        None, ge=0, le=1, description="exit if the largest probability is at least this"
    )
    margin: float | None = Field(
        None, ge=0, le=1, description="exit if the two largest probabilities are this far apart"
    )
    entropy: float | None = Field(
        None, ge=0, le=_LARGEST_ENTROPY, description="exit if the entropy in nats is at most this"
    )
    binary_probability: float | None = Field(
        None,
        ge=0.5,
        le=1,
        description=(
            "exit if the one probability p, or 1 - p, is at least this: for sigmoid outputs; of "
            "several p each one has to be"
        ),
    )
    score_at_most: float | None = Field(
        None, description="exit if the score tensor is at most this"
    )
    score_above: float | None = Field(
        None,
        description="exit, abstaining, if the score tensor is above this: out of distribution",
    )
    output: str | None = Field(
        None, description="the tensor that the rule looks at; the layer's only float output"
    )

    @property
    def rule(self) -> str:
        """The name of the rule that is set."""
        return next(name for name in _RULES if getattr(self, name) is not None)

    @property
    def threshold(self) -> float:
        return float(getattr(self, self.rule))

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if sum(getattr(self, name) is not None for name in _RULES) != 1:
            raise ValueError(f"max_probability: give exactly one of {', '.join(_RULES)}")
        return self


_RULES = (
    "max_probability",
    "margin",
    "entropy",
    "binary_probability",
    "score_at_most",
    "score_above",
)


class Layer(Member):
    """A member of a cascade, with the rule by which rows leave it."""

    exit: Exit | None = Field(None, description="when a row goes no further; the last layer: none")
    deadline_s: float | None = Field(
        None, gt=0, description="seconds this layer may take before on_timeout decides"
    )


class _Pipeline(Served):
    version: Version = Field(1, description="the version that answers say they come from")
    placement: Literal["colocated", "deployment"] = Field(
        "colocated",
        description=(
            "colocated runs the members in the pipeline's own process, without a hop; deployment "
            "calls the models' own replicas, for members that need their own scaling or GPU"
        ),
    )

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels: dict[str, Member] = {}
        for place, member in _places(self):
            if member.label == _REQUEST:
                raise ValueError(f"{place}: '{_REQUEST}' is the request itself; give another name")
            same = labels.setdefault(member.label, member)
            # A switch may send several values to the same model.
            if same is not member and not (isinstance(self, Switch) and same == member):
                raise ValueError(
                    f"{place}: another member is called '{member.label}' already; give this one a "
                    "name of its own"
                )
        return self


class Sequence(_Pipeline):
    """Members one after the other; the last one's outputs are the answer."""

    kind: Literal["sequence"] = Field(description="sequence")
    steps: tuple[Member, ...] = Field(min_length=1, description="the members in order")


class Ensemble(_Pipeline):
    """Members side by side on the same request."""

    kind: Literal["ensemble"] = Field(description="ensemble")
    members: tuple[Member, ...] = Field(min_length=1, description="the members")
    combine: Literal["mean", "vote", "collect"] = Field(
        "mean",
        description=(
            "mean of the members' outputs; vote of their largest class; or collect all outputs "
            "under `<member>.<output>`"
        ),
    )


class Switch(_Pipeline):
    """A member chooses, row by row, which other member answers."""

    kind: Literal["switch"] = Field(description="switch")
    by: Member = Field(description="the member that chooses")
    tensor: str | None = Field(
        None,
        description="its output that chooses: a value, or probabilities whose largest class counts",
    )
    branches: dict[str, Member] = Field(min_length=1, description="the value: the member")
    default: Member | None = Field(
        None, description="the member for other values; without it they are a 400"
    )


class Splitter(_Pipeline):
    """Rows go to one of several members by weight."""

    kind: Literal["splitter"] = Field(description="splitter")
    members: tuple[Member, ...] = Field(min_length=1, description="the members")
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        description="share of the rows for each member, in the same order; they sum to 1"
    )
    key: str | None = Field(
        None,
        description="an input of strings or integers; rows with the same key go the same way",
    )

    @model_validator(mode="after")
    def _weights_sum(self) -> Self:
        if len(self.weights) != len(self.members):
            raise ValueError(f"weights: {len(self.weights)} for {len(self.members)} members")
        if abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights: they sum to {sum(self.weights):g}, not 1")
        return self


class Cascade(_Pipeline):
    """Layers from cheap to dear; each answers the rows that it is sure of."""

    kind: Literal["cascade"] = Field(description="cascade")
    layers: tuple[Layer, ...] = Field(min_length=2, description="the layers, cheapest first")
    on_timeout: Literal["answer", "fail"] = Field(
        "answer",
        description=(
            "when a later layer is late or fails: answer with the best layer so far, marked "
            "degraded, or fail the request"
        ),
    )

    @model_validator(mode="after")
    def _exits_where_they_belong(self) -> Self:
        for index, layer in enumerate(self.layers[:-1]):
            if layer.exit is None:
                raise ValueError(f"layers[{index}].exit: every layer but the last needs one")
        if self.layers[-1].exit is not None:
            raise ValueError(f"layers[{len(self.layers) - 1}].exit: the last layer answers all")
        return self


Pipeline = Annotated[Sequence | Ensemble | Switch | Splitter | Cascade, Field(discriminator="kind")]

KINDS = ("sequence", "ensemble", "switch", "splitter", "cascade")
PIPELINE: TypeAdapter[Pipeline] = TypeAdapter(Pipeline)


def members_of(pipeline: Pipeline) -> list[Member]:
    """Return every member of a pipeline, in the order in which they may be called."""
    return [member for _, member in _places(pipeline)]


def _places(pipeline: "_Pipeline") -> list[tuple[str, Member]]:
    """Return every member with its place in the pipeline's section, in the order of calls."""
    match pipeline:
        case Sequence():
            return _listed("steps", pipeline.steps)
        case Ensemble() | Splitter():
            return _listed("members", pipeline.members)
        case Cascade():
            return _listed("layers", pipeline.layers)
        case Switch():
            branches = [(f"branches.{key}", each) for key, each in pipeline.branches.items()]
            default = [("default", pipeline.default)] if pipeline.default else []
            return [("by", pipeline.by), *branches, *default]
        case _:
            raise AssertionError(f"no kind of pipeline: {pipeline}")


def _listed(key: str, members: Iterable[Member]) -> list[tuple[str, Member]]:
    return [(f"{key}[{index}]", member) for index, member in enumerate(members)]


def nested_in(pipeline: Pipeline, pipelines: Mapping[str, Pipeline]) -> list[Pipeline]:
    """Return the pipelines that one contains, directly or through others: each once, inner first.

    Raises ConfigError if one contains itself, or a version of another that there is not.
    """
    found: dict[str, Pipeline] = {}
    _collect(pipeline, pipelines, (), found)
    return list(found.values())


def models_of(pipeline: Pipeline, pipelines: Mapping[str, Pipeline]) -> list[str]:
    """Return the models that a pipeline is made of, those of pipelines in it too, each once."""
    parts = [*nested_in(pipeline, pipelines), pipeline]
    names = [member.model for part in parts for member in members_of(part)]
    return [name for name in dict.fromkeys(names) if name not in pipelines]


def _collect(
    pipeline: Pipeline,
    pipelines: Mapping[str, Pipeline],
    above: tuple[str, ...],
    found: dict[str, Pipeline],
) -> None:
    path = (*above, pipeline.name)
    if pipeline.name in above:
        raise ConfigError(f"pipelines: {' -> '.join(path)} goes round in a circle")
    for place, member in _places(pipeline):
        if member.model in pipelines:
            nested = pipelines[member.model]
            if member.version not in (None, nested.version):
                raise ConfigError(
                    f"pipelines[{pipeline.name}].{place}.version: '{nested.name}' is a pipeline, "
                    f"and has only its version {nested.version}; versions of its models are named "
                    "in it"
                )
            _collect(nested, pipelines, path, found)
            found[nested.name] = nested
