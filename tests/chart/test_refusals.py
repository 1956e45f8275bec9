"""Values that cannot work are refused before anything reaches a cluster, with a sentence."""

import pytest

GPU = {"name": "gpu", "gpus": 1, "minReplicas": 0, "maxReplicas": 1}
KEYS = {"accessKeys": {"existingSecret": "strata-keys"}}
BUCKET = {"repository": {"root": "s3://models"}}
DEPLOYED = {
    "name": "p",
    "kind": "sequence",
    "placement": "deployment",
    "steps": [{"model": "absent"}],
}
CIRCLE = [
    {"name": "a", "kind": "sequence", "steps": [{"model": "b"}]},
    {"name": "b", "kind": "sequence", "steps": [{"model": "a"}]},
]
UNGUARDED = {"auth": {"enabled": False}, "networkPolicy": {"enabled": False}}
INCREMENTAL = {"type": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "istio"}


def models(*trees):
    return {"models": list(trees)}


def quotas(*trees):
    return {"access": {"quotas": list(trees)}}


def https(tls=None, *, port=8000, haproxy=True, **secrets):
    return {
        "tls": {"existingSecret": "web", **secrets},
        "http": {"port": port, "haproxy": haproxy, **({"tls": tls} if tls else {})},
    }


def cors(*origins, **http):
    return {"http": {"cors": {"origins": list(origins)}, **http}}


def tokens(jwks, **more):
    jwt = {"issuer": "https://x/", "jwks": jwks, "audience": "strata"}
    return KEYS | {"access": {"jwt": jwt | more}}


def model(**keys):
    return models({"name": "m", **keys})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"fullnameOverride": "x" * 48}, "has 48 characters, a RayService may have 47"),
        ({"fullnameOverride": "1st"}, "must begin with a letter"),
        ({"image": {"tag": "latest"}}, "image.tag: 'latest' is refused"),
        ({"service": {"externalTrafficPolicy": "Local"}}, "of type ClusterIP is not reached"),
        (models({"name": "m"}, {"name": "m"}), "the name 'm' is given more than once"),
        (models({"name": "gateway"}), "the name 'gateway' is reserved"),
        (models({"name": "unknown"}), "the name 'unknown' is reserved"),
        (model(slo={"latency_ms": 50}), "'m': slo: give latency_ms and latency_target together"),
        ({"tenants": {"names": ["a", "a"]}}, "tenants.names: must differ"),
        ({"tenants": {"names": ["other"]}}, "tenants.names: must differ"),
        (model(autoscaling={"min_replicas": 3}), "min_replicas (3) exceeds max_replicas (1)"),
        (model(ray_actor_options={"num_gpus": 0.5}), "wants 0.5 GPUs and no worker group has them"),
        (
            model(ray_actor_options={"num_gpus": 2}) | {"extraWorkerGroups": [GPU]},
            "wants 2 GPUs and no worker group has them",
        ),
        (model(ray_actor_options={"num_cpus": 5}), "no worker group has 5 CPUs"),
        (
            model(ray_actor_options={"resources": {"x": 1}}),
            "and its custom resources in one worker",
        ),
        (
            model(autoscaling={"min_replicas": 17, "max_replicas": 17}),
            "the models at rest take 17.1 CPUs and all workers have 16",
        ),
        (
            model(pool="p", ray_actor_options={"num_cpus": 2}),
            "model 'm' shares the replicas of the pool 'p': set ray_actor_options there",
        ),
        (model() | {"pools": [{"name": "p"}] * 2}, "pools: the name 'p' is given more than once"),
        (
            models({"name": "pool-p"}, {"name": "m", "pool": "p"}),
            "the application of the pool 'p' is called 'pool-p', as a model or pipeline is",
        ),
        (
            model(pool="p") | {"pools": [{"name": "p", "autoscaling": {"min_replicas": 3}}]},
            "min_replicas (3) exceeds max_replicas (1)",
        ),
        ({"pipelines": [DEPLOYED]}, "calls the replicas of 'absent', which is not among models"),
        ({"pipelines": CIRCLE}, "a -> b -> a goes round in a circle"),
        (BUCKET, "storage.enabled is true: set storage.enabled=false"),
        (BUCKET | {"storage": {"enabled": False}}, "set demo.enabled=false"),
        ({"storage": {"enabled": False}}, "is a folder on the volume and storage.enabled is false"),
        ({"objectStore": {"existingSecret": "s"}}, "name an object store such as s3://"),
        ({"repository": {"root": "/models"}}, "must be relative"),
        ({"repository": {"root": "../models"}}, "must be relative"),
        ({"demo": {"models": []}}, "demo.models is empty"),
        (
            {"access": {"keys": "keys.json"}},
            "which pods do not have: set accessKeys.existingSecret to the name of a Secret",
        ),
        (
            tokens("https://x/jwks") | {"accessKeys": {}},
            "access.jwt needs accessKeys.existingSecret, too",
        ),
        *(
            (tokens(place), "must be https://, or who is on the way")
            for place in (
                "http://x.example/jwks",
                "http://x.svc.example/jwks",
                "http://x/a.svc/jwks",
                "http://127.0.0.1/jwks",
                "https://user:word@x.example/",
                "https://x.example/a b",
                "https://x.example/jwks#keys",
                "https://x#y/jwks",
                "https://x.example:port/",
                "https:///jwks",
                "file:///jwks.json",
            )
        ),
        (tokens("jwks.json"), "access.jwt.jwks 'jwks.json' is a file beside strata.yaml"),
        (tokens("https://x/", jwks_ca="ca.pem"), "access.jwt.jwks_ca 'ca.pem' is a file beside"),
        (tokens("/etc/jwks.json", jwks_ca="/ca.pem"), "needs a jwks that begins with https://"),
        (tokens("https://x/", algorithm="HS256"), "algorithm"),
        ({"accessKeys": {"probeSecret": "s"}}, "set accessKeys.existingSecret too"),
        (KEYS | {"auth": {"enabled": False}}, "accessKeys.existingSecret needs auth.enabled"),
        (KEYS | {"http": {"haproxy": False}}, "http.haproxy: false lets everybody in"),
        (
            quotas({"requests_per_s": 1}) | {"http": {"haproxy": False}},
            "http.haproxy: false lets everybody in",
        ),
        (KEYS | {"http": {"port": 8990}}, "must differ from 8990"),
        (quotas({"tenant": "a"}), "the quota of 'a' has no limit"),
        (quotas({"rows_per_s": 1, "model": "x"}), "the model 'x' is not among models"),
        (quotas({"rows_per_s": 1.5}), "integer"),
        ({"access": {"counts": {"redis": "redis://a:b@c"}}}, "pattern"),
        ({"accessCounts": {"existingSecret": "s"}}, "set access.counts.redis too"),
        (quotas({"requests_per_s": 1, "model": "x"}), "the model 'x' is not among models"),
        (quotas(*[{"requests_per_s": 1}] * 2), "'*' has more than one: write one with both"),
        (
            quotas(*[{"requests_per_s": 1, "tenant": "a", "model": "digits"}] * 2),
            "'a' has more than one of the model 'digits'",
        ),
        (quotas({"requests_per_s": -1}), "minimum"),
        ({"redis": {"bundled": {"enabled": True}}}, "needs redis.enabled"),
        ({"redis": {"enabled": True}}, "redis.enabled needs redis.address"),
        ({"redis": {"enabled": True, "address": "r:6379"}}, "needs redis.existingSecret"),
        (
            {"redis": {"enabled": True, "address": "r:6379", "bundled": {"enabled": True}}},
            "exclude each other",
        ),
        (
            {"redis": {"enabled": True, "bundled": {"enabled": True, "image": "redis"}}},
            "redis.bundled.image: 'redis' must have a tag",
        ),
        ({"worker": {"minReplicas": 5}}, "'cpu': minReplicas (5) exceeds maxReplicas (4)"),
        ({"extraWorkerGroups": [GPU, GPU]}, "the name 'gpu' is given more than once"),
        ({"extraWorkerGroups": [GPU | {"name": "cpu"}]}, "'cpu' is worker's"),
        (
            {"worker": {"idleTimeoutSeconds": 9}, "autoscaler": {"version": "v1"}},
            "worker group 'cpu': idleTimeoutSeconds of a group needs the autoscaler, version v2",
        ),
        ({"drain": {"terminationGracePeriodSeconds": 40}}, "the ingress alone takes 30"),
        (model(graceful_shutdown_timeout_s=100), "exceeds the 70 seconds a pod has to drain"),
        ({"upgradeStrategy": {"type": INCREMENTAL["type"]}}, "needs upgradeStrategy.gatewayClass"),
        (
            {"upgradeStrategy": INCREMENTAL, "autoscaler": {"enabled": False}},
            "needs autoscaler.enabled",
        ),
        (
            {"upgradeStrategy": INCREMENTAL | {"maxSurgePercent": 10}},
            "stepSizePercent exceeds maxSurgePercent",
        ),
        (
            {"upgradeStrategy": INCREMENTAL, "ingress": {"enabled": True, "hosts": ["h"]}},
            "disable ingress and httpRoute",
        ),
        ({"upgradeStrategy": INCREMENTAL}, "set readiness.enabled=false"),
        ({"httpRoute": {"enabled": True}}, "needs httpRoute.parentRefs"),
        ({"ingress": {"enabled": True}}, "needs ingress.hosts"),
        ({"http": {"port": 9100}}, "must differ"),
        ({"ports": {"metrics": 44227}}, "must differ"),
        (
            {"http": {"tls": {"certificate": "a", "key": "b"}}},
            "set tls.existingSecret to the name of a Secret of the type kubernetes.io/tls",
        ),
        ({"http": {"tls": {"hsts_max_age_s": 0}}}, "set tls.existingSecret to the name"),
        ({"tls": {"probeSecret": "s"}}, "tls.probeSecret is given and pods speak HTTP"),
        ({"tls": {"clientCaSecret": "s"}}, "tls.clientCaSecret is given and pods speak HTTP"),
        (https(clientCaSecret="s"), "set http.tls.client_ca (to ca.crt, say) too"),
        (https(probeSecret="s"), "leave it out, or set http.tls.client_ca"),
        (https({"client_certificates": "optional"}), "needs http.tls.client_ca (ca.crt, say)"),
        (https({"client_ca": "ca.crt"}), "set tls.probeSecret to a Secret of the type"),
        (https({"public_port": 443}), "http.tls.public_port needs http.tls.redirect_port"),
        (https({"redirect_port": 8000}), "redirect_port and service.port are both 8000"),
        (https(port=8080), "must differ from 8080, at which pods answer health checks"),
        (https() | {"ports": {"metrics": 8080}}, "must differ from 8080"),
        (https(port=8990), "must differ from 8990"),
        (https(haproxy=False), "http.haproxy: false leaves nobody to speak HTTPS"),
        (https() | {"head": {"serveRequests": True}}, "KubeRay asks the head's port of requests"),
        (
            https() | {"upgradeStrategy": INCREMENTAL, "readiness": {"enabled": False}},
            "the Gateway that KubeRay makes asks pods without TLS",
        ),
        (https({"redirect_port": 0}), "minimum"),
        (https({"client_certificates": "never"}), "value must be one of"),
        (cors("*", "https://a"), "* is any origin, so others beside it say nothing"),
        (cors("https://a/b"), "'https://a/b' is no origin as browsers send it"),
        (cors("https://a:443"), "'https://a:443' has the port that browsers leave out"),
        (cors(), "minItems"),
        (cors("https://a", haproxy=False), "http.haproxy: false leaves nobody to answer browsers"),
        (
            {"monitoring": {"bundled": True, "podMonitor": {"enabled": True}}},
            "monitoring.podMonitor.enabled is for another one",
        ),
        (
            {"monitoring": {"bundled": True, "prometheusRule": {"enabled": True}}},
            "monitoring.prometheusRule.enabled is for another one",
        ),
        (
            {"monitoring": {"podMonitor": {"enabled": True}}},
            "needs the kind PodMonitor, which this cluster lacks: install prometheus-operator",
        ),
        (
            {"monitoring": {"prometheusRule": {"enabled": True}}},
            "wants --api-versions monitoring.coreos.com/v1/PrometheusRule",
        ),
        (
            {"monitoring": {"bundled": True, "prometheus": {"image": "host:5000/prometheus"}}},
            "monitoring.prometheus.image: 'host:5000/prometheus' must have a tag",
        ),
        (
            {"monitoring": {"bundled": True, "grafana": {"image": "grafana/grafana:latest"}}},
            "monitoring.grafana.image: 'grafana/grafana:latest' must have a tag",
        ),
        ({"networkPolicy": {"monitoring": [{}]}}, "what monitoring.bundled runs"),
        (
            UNGUARDED | {"service": {"type": "LoadBalancer"}},
            "whoever reaches a pod can run code on it: leave one of the two on",
        ),
        (UNGUARDED | {"ingress": {"enabled": True, "hosts": ["h"]}}, "leave one of the two on"),
        (
            UNGUARDED | {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}},
            "leave one of the two on",
        ),
        # What the schema says:
        ({"monitoring": {"interval": "15"}}, "does not match pattern"),
        ({"monitoring": {"prometheus": {"retentionSize": "8Gi"}}}, "does not match pattern"),
        ({"grpc": {"enabled": True}}, "additional properties 'grpc' not allowed"),
        (model(version_labels={"a": 1767225600123456789}), "write it in quotes"),
        (model(version_policy={"specific": [3, 9007199254740993]}), "write it in quotes"),
        (model(batch_size=3), "additional properties 'batch_size' not allowed"),
        (model(batching={"max_batch_size": 0}), "minimum"),
        (model(slo={"availability": 0.999}), "minimum"),
        ({"worker": {"replicas": 3}}, "additional properties 'replicas' not allowed"),
        ({"extraWorkerGroups": [{"gpus": 1}]}, "missing property 'name'"),
        ({"pipelines": [{"name": "p", "kind": "loop"}]}, "oneOf"),
        ({"service": {"type": "Headless"}}, "value must be one of"),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_sentence(refusal, values, sentence):
    assert sentence in " ".join(refusal(values).split())


def test_a_release_name_that_is_too_long_is_refused(refusal):
    assert "choose a shorter release name" in refusal({}, release="a" * 50)
