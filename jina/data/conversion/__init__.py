"""Foreign formats to rows of ours; `jina.data.convert` puts the pieces together."""
