"""What holds for every test."""

from hypothesis import settings

# A property is about values; how long an example takes is up to the machine, which others share.
settings.register_profile("strata", deadline=None)
settings.load_profile("strata")
