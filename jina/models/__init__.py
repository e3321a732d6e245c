"""The model: configuration, processor, packed engine, adapters, losses, checkpoint format."""
