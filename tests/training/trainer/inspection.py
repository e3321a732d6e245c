"""What a trainer trains and is given, as it is at one moment."""


def parameters_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def trained_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.trained_parameters().items()}


def first_batch(trainer):
    return next(iter(trainer.get_train_dataloader()))
