"""Run a model with tensors of ones: python3 main.py [--repeat N] MODEL [SIZE ...]"""

import argparse
import sys
from array import array
from math import prod

from torchmodel import Model, TorchError, Value, tensor


def show(value):
    """One line for each tensor, number and text in a value."""
    if isinstance(value, Value):
        print(*(f"{number:.9g}" for number in value.numbers()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            show(item)
    elif isinstance(value, dict):
        for item in value.values():
            show(item)
    else:
        print(value)


def run(path, sizes, repeat):
    """Call forward and print the last result."""
    model = Model(path)
    shapes = [sizes or shape for shape in model.example_shapes()]
    for number in range(1, repeat + 1):
        ones = [tensor(array("f", [1]) * prod(shape), shape) for shape in shapes]
        output = model.forward(*ones)
        if number == repeat:
            show(output.plain())


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run a model with tensors of ones.")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="how often")
    parser.add_argument("model")
    parser.add_argument("size", type=int, nargs="*", help="of each input; by default they follow from the model")
    arguments = parser.parse_args()
    try:
        run(arguments.model, arguments.size, arguments.repeat)
    except (TorchError, ValueError) as error:
        sys.exit(f"main.py: {error}")


main()
