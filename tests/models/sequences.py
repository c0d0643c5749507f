"""Models of sequences and of tokens: convolutions, recurrent layers, attention, embeddings."""

import torch
from torch import Tensor, nn


class Conv1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 80, stride=16)

    def forward(self, wave: Tensor) -> Tensor:
        return self.conv(wave).mean(-1)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.fc(y[:, -1])


class LstmState(nn.Module):
    """The state is the caller's."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        result: tuple[Tensor, tuple[Tensor, Tensor]] = self.lstm(x, state)
        return result


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.gru(x)
        return result


class GruCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 3)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.cell(x, h)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return self.attention(query, key, key)[0]


class TokenClassifier(nn.Module):
    """Tokens, a mask, and positions up to 6."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(20, 8)
        self.position = nn.Parameter(torch.randn(1, 6, 8))
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.norm(self.token(input_ids) + self.position)
        x = x.masked_fill(attention_mask.unsqueeze(-1) == 0, 0.0)
        return self.fc(x)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids).sum(-1)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 4, mode="mean")
        self.fc = nn.Linear(4, 2)

    def forward(self, text: Tensor, offsets: Tensor) -> Tensor:
        return self.fc(self.bag(text, offsets))


class Mask(nn.Module):
    """A bool tensor by its use as a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, keep: Tensor, x: Tensor) -> Tensor:
        return torch.where(keep, self.fc(x), torch.zeros_like(x))
