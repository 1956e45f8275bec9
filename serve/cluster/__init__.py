"""Operations on a Kubernetes cluster: read a release, say what is wrong with it, change it through Helm."""
