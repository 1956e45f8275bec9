from tests.unit.cluster.fake_helm import chart, helm

__all__ = ["chart", "helm"]
