"""What doctor's checks find in a release, for the tests of each check."""

from serve.cluster.diagnosis import find_problems


def only(snapshot):
    """Return the one finding of a release, so that nothing else is found with it."""
    (found,) = find_problems(snapshot)
    return found


def first(snapshot, kind):
    """Return the first finding of a kind."""
    return next(each for each in find_problems(snapshot) if each.kind is kind)
