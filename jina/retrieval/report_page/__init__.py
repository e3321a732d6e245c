"""The parts of a run's report: what is read, what is chosen, what is drawn."""
