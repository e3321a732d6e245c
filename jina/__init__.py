"""SmartEmbed: adapt Jina Embeddings V4 to your own image and text pairs."""

__version__ = "0.1.0"
