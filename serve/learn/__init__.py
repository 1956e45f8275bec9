"""Training of the reference models. Nothing that serves imports this."""
