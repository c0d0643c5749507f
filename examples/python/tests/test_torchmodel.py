import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torchmodel import Model, TorchError, tensor, value

MODEL = Path(__file__).parents[1] / "model.pt"


class ModelTest(unittest.TestCase):
    def setUp(self):
        self.model = Model(MODEL)

    def test_forward_returns_numbers(self):
        output = self.model.forward(tensor([[1, 1, 1, 1], [0, 0, 0, 0]]))
        self.assertEqual(output.kind, "tensor")
        self.assertEqual(output.shape, (2, 2))
        self.assertEqual(output.numbers().tolist()[:2], [2.5, -0.75])

    def test_a_wrong_shape_is_an_error(self):
        with self.assertRaisesRegex(TorchError, "shapes cannot be multiplied"):
            self.model.forward(tensor([[1, 1, 1]]))
        with self.assertRaisesRegex(ValueError, "different lengths"):
            tensor([[1, 2], [3]])

    def test_a_missing_model_is_an_error(self):
        with self.assertRaisesRegex(TorchError, "missing.pt"):
            Model("missing.pt")

    def test_values_come_back(self):
        for plain in (None, True, 7, 2.5, "text", [1, 2], (1, "a"), {"a": [1.5], "b": None}):
            self.assertEqual(value(plain).plain(), plain)

    def test_threads_share_a_model(self):
        with ThreadPoolExecutor(4) as pool:
            outputs = pool.map(lambda _: self.model.forward(tensor([[1, 1, 1, 1]])).numbers().tolist(), range(16))
        self.assertEqual(list(outputs), [[2.5, -0.75]] * 16)
