"""Dynamic batching: `batch` says how requests share a call, `batcher` says when."""
