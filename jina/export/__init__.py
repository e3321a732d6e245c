"""A checkpoint for other programs: export formats, parity reports, model cards, MTEB."""
