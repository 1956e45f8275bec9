"""PromQL that the dashboards have in common: selectors by variables, rates, quantiles, zeros.

Every expression of a dashboard selects by the variables that it has; namespace is `.*` where the
label is absent, which is everywhere but on Kubernetes.
"""

_NAMESPACE = 'namespace=~"$namespace"'


def everything(*matchers: str) -> str:
    """Return a selector of the namespace alone, for what Ray measures."""
    return "{" + ", ".join([_NAMESPACE, *matchers]) + "}"


def of_model(*matchers: str) -> str:
    """Return a selector of the chosen models."""
    return everything('model=~"$model"', *matchers)


def of_version(*matchers: str) -> str:
    """Return a selector of the chosen versions of the chosen models."""
    return of_model('version=~"$version"', *matchers)


def of_application(*matchers: str) -> str:
    """Return a selector of the chosen models for Ray Serve's own metrics: one application each."""
    return everything('application=~"$model"', *matchers)


def rate(metric: str, selector: str, by: str = "") -> str:
    """Return the increase of a counter a second, all replicas together."""
    return f"sum by ({by}) (rate({metric}{selector}[$__rate_interval]))"


def increase(metric: str, selector: str, by: str = "") -> str:
    """Return the increase of a counter in the time that is shown, all replicas together."""
    return f"sum by ({by}) (increase({metric}{selector}[$__range]))"


def share(metric: str, selector: str, by: str) -> str:
    """Return the share that each series has of a counter's increase in the time that is shown."""
    return (
        f"{increase(metric, selector, by)} / on() group_left() ({increase(metric, selector)} > 0)"
    )


def quantile(q: float, histogram: str, selector: str, by: str = "") -> str:
    """Return a quantile over all replicas; nothing where there were no observations."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({histogram}_bucket{selector}[$__rate_interval]))"
    return f"histogram_quantile({q}, {buckets}) >= 0"


def replicas(selector: str) -> str:
    """Return how many replicas models have; one of a pool is one, however many of its models."""
    return f"count(count by (namespace, replica) (ray_model_ready{selector} == 1))"


def or_zero(expr: str, label: str = "", value: str = "") -> str:
    """Return an expression that is 0 where `expr` finds nothing: no GPU uses no memory.

    Not for what is always there: a scrape that fails would draw it as 0. Where series are told
    apart by a label, `label` and `value` are those of the zero.
    """
    zero = f'label_replace(vector(0), "{label}", "{value}", "", "")' if label else "vector(0)"
    return f"({expr}) or on() {zero}"
