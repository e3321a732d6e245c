"""From a checkpoint to vectors, and from vectors to what was looked for."""
