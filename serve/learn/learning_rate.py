"""The course of the learning rate in a training that is to be short.

Called by the reference models' files. Smith, "Super-convergence" (2018): a rate that begins low may
rise higher than one that stays, and few epochs do.
"""

import keras


def one_cycle(
    peak: float, steps: int, rising: float = 0.1
) -> keras.optimizers.schedules.CosineDecay:
    """Return a rate that rises to its peak in a part of the steps, then falls along a cosine."""
    rise = max(1, int(rising * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rise), warmup_target=peak, warmup_steps=rise
    )
