"""The model repository: which versions there are, which are whole, and how one is added."""
