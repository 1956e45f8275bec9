"""What a section refuses, and what it works out from its keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.config.sections import Batching, Limits, RayActorOptions, Tenants, VersionPolicy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [{name: 'a/b'}]", "models[0].name: string should match pattern"),
        (
            "models: [{name: a, batching: {max_batch_size: 32, allowed_batch_sizes: [8, 16]}}]",
            "models[0].batching.allowed_batch_sizes: must end with max_batch_size (32)",
        ),
        (
            "models: [{name: a, batching: {max_batch_size: 4, allowed_batch_sizes: [2, 1, 4]}}]",
            "models[0].batching.allowed_batch_sizes: must ascend",
        ),
        (
            "models: [{name: a, version_policy: {latest: 1, all: true}}]",
            "models[0].version_policy.latest: give exactly one of latest, all, specific",
        ),
        (
            "models: [{name: a, autoscaling: {min_replicas: 3, max_replicas: 2}}]",
            "models[0].autoscaling.min_replicas: 3 exceeds max_replicas (2)",
        ),
        (
            "models: [{name: a, version_policy: {latest: null}}]",
            "models[0].version_policy.latest: give exactly one of latest, all, specific",
        ),
        (
            "models: [{name: a, autoscaling: {max_replicas: 2, initial_replicas: 3}}]",
            "models[0].autoscaling.initial_replicas: 3 is not between min_replicas (1) and",
        ),
        (
            "models: [{name: a, ray_actor_options: {num_cpus: .nan}}]",
            "models[0].ray_actor_options.num_cpus: input should be a finite number",
        ),
        (
            "models: [{name: a, ray_actor_options: {num_gpus: 1.5}}]",
            "models[0].ray_actor_options.num_gpus: 1.5 must be whole above 1",
        ),
        (
            "models: [{name: a, slo: {latency_ms: 50}}]",
            "models[0].slo.latency_target: give latency_ms and latency_target together",
        ),
        (
            "models: [{name: a, slo: {latency_target: 99}}]",
            "models[0].slo.latency_ms: give latency_ms and latency_target together",
        ),
        (
            "models: [{name: a, slo: {availability: 0.999}}]",
            "models[0].slo.availability: input should be greater than or equal to 50",
        ),
        (
            "models: [{name: a, slo: {availability: 100}}]",
            "models[0].slo.availability: input should be less than 100",
        ),
        (
            "models: [{name: a, slo: {latency_ms: 0, latency_target: 99}}]",
            "models[0].slo.latency_ms: input should be greater than 0",
        ),
        ("tenants: {header: 'x tenant'}", "tenants.header: string should match pattern"),
        ("tenants: {names: [a, b, a]}", "tenants.names: 'a' is given more than once"),
        ("tenants: {names: [other]}", "tenants.names[0]: 'other' is reserved"),
        (
            f"tenants: {{names: {[f't{i}' for i in range(51)]}}}",
            "tenants.names: tuple should have at most 50 items",
        ),
    ],
)
def test_a_value_that_does_not_work_is_refused(refusal, text, said):
    assert said in refusal(text)


@given(st.integers(1, 5000))
def test_default_batch_sizes_ascend_to_the_largest(largest):
    sizes = Batching(max_batch_size=largest).sizes
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == largest


def test_batch_sizes_that_are_given_are_the_only_ones():
    assert Batching(max_batch_size=6, allowed_batch_sizes=(2, 6)).sizes == (2, 6)


@pytest.mark.parametrize(("cpus", "threads"), [(0, 1), (0.5, 1), (1, 1), (2.5, 3), (4, 4)])
def test_a_part_of_a_core_is_a_thread_of_its_own(cpus, threads):
    assert RayActorOptions(num_cpus=cpus).num_threads == threads


@pytest.mark.parametrize("policy", [{"latest": 2}, {"all": True}, {"specific": [1, 3]}])
def test_a_policy_with_one_key_has_no_other(policy):
    read = VersionPolicy.model_validate(policy)
    assert read.model_dump(mode="json", exclude_unset=True) == policy


@pytest.mark.parametrize("policy", [{}, {"all": False}, {"specific": []}, {"latest": 0}])
def test_a_policy_that_loads_nothing_is_refused(policy):
    with pytest.raises(ValidationError):
        VersionPolicy.model_validate(policy)


def test_what_was_read_does_not_change():
    limits = Limits()
    with pytest.raises(ValidationError, match="frozen"):
        limits.max_queued_requests = 1


@pytest.mark.parametrize("header", ["x-tenant", "X-Team", "x_team"])
def test_a_header_of_ones_own_may_name_the_tenant(header):
    assert Tenants(header=header).header == header


@pytest.mark.parametrize(
    "header", ["Authorization", "X-API-Key", "Content-Length", "x-strata-edge", "a#b", "a'b", "%a"]
)
def test_what_is_another_header_or_a_word_of_haproxys_may_not(header):
    with pytest.raises(ValidationError):
        Tenants(header=header)
