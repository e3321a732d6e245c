"""Training: configuration, the contrastive trainer and what it needs."""
