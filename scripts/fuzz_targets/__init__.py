"""Coverage-guided fuzzing of whatever reads bytes of strangers: decoders, paths, headers, files.

What is called and what must hold is in targets; scripts/fuzz runs them. Nothing here is in the
wheel, and nothing of it is imported by what serves.
"""
