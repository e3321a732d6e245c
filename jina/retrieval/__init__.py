"""Vectors at work: embedding collections of items, ranking them, and measuring the ranking."""
