"""Operations on a Kubernetes cluster: read a release, judge it, change it through Helm."""
