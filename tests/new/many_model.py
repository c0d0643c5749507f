"""Write a model with two inputs whose output is a tuple of a tensor, a dict and a string: python many_model.py FILE."""

import sys

import torch


class Many(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 2)
        with torch.no_grad():
            self.fc.weight.fill_(0.5)
            self.fc.bias.fill_(0.25)

    def forward(
        self, a: torch.Tensor, b: torch.Tensor, scale: float = 2.0
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], str]:
        total = self.fc(a) + self.fc(b)
        return total * scale, {"sum": total.sum(), "ids": torch.arange(3)}, "done"


if __name__ == "__main__":
    torch.jit.script(Many().eval()).save(sys.argv[1])
