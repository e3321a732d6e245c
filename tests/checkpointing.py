"""Gradient checkpointing as the installed transformers names it: another name since 5.21."""

from transformers import PreTrainedModel

IS_RENAMED = hasattr(PreTrainedModel, "activation_checkpointing_enable")
NAME = "activation_checkpointing" if IS_RENAMED else "gradient_checkpointing"


def enable_checkpointing(model, options):
    """Let a model compute the insides of its layers anew on the way back."""
    getattr(model, f"{NAME}_enable")(options)
