from serve.evaluation.dataset import Dataset


def dataset(labels, **inputs):
    """Return labelled data of inputs by name."""
    return Dataset(inputs, labels)
