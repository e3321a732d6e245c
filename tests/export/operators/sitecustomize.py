"""Lets PyPI's torchvision be imported beside the CPU build of torch; for fresh processes of tests.

That wheel's compiled part wants CUDA and isn't loaded there, so its operators aren't declared, and
importing the package stops at the first one. Declaring the two names is enough: they find boxes in
images, and nothing here calls them. All of torchvision that is used, resizing and normalising, is
its own Python on torch's own operators. Python imports a `sitecustomize` it finds on `PYTHONPATH`.
"""

import importlib.abc
import sys

OPERATORS = ("nms", "qnms")


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Declares the operators when torchvision is first looked for, and finds nothing itself."""

    def find_spec(self, name, path, target=None):
        """Leave the import to the finders behind this one."""
        if name == "torchvision" and path is None:
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                self.library.define(
                    f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor"
                )
        return


KEPT = DeclareOperators()
sys.meta_path.insert(0, KEPT)
