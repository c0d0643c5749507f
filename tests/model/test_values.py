"""Values in files: what torch, numpy and safetensors have saved is read, and what is written they read."""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed
from torchlink.errors import InexpressibleError, MalformedFileError, TorchlinkError
from torchlink.model.elements import pack, unpack
from torchlink.model.marshalling import value_of_text
from torchlink.model.stored import ITEM_SIZES, InlineTensor, StoredTensor
from torchlink.model.values import read_values
from torchlink.model.writing import json_text, write_values

if TYPE_CHECKING:
    from pathlib import Path

torch = needed("torch")
numpy = needed("numpy")
safetensors = needed("safetensors.torch")
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf")


def inline(tensor: Any) -> InlineTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return InlineTensor(dtype, tuple(tensor.shape), raw)


def written(value: Any, path: Path) -> Path:
    with path.open("wb") as file:
        write_values(value, path, file)
    return path


def plain(value: Any) -> Any:
    """A value with every tensor as the bytes of its elements in row-major order."""
    if isinstance(value, StoredTensor):
        dtype = getattr(torch, value.dtype)
        data = value.path.read_bytes()[value.offset :]
        flat = (
            torch.frombuffer(bytearray(data[: len(data) // dtype.itemsize * dtype.itemsize]), dtype=dtype)
            if data
            else torch.empty(0, dtype=dtype)
        )
        return inline(flat.as_strided(value.shape, value.strides))
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value


NESTED: Any = (
    inline(torch.arange(6.0).reshape(2, 3)),
    [1, -5, 2**62, 0.1, True, None, "é\n'"],
    {"a.b": inline(torch.empty(0, 2)), "c": {3: (inline(torch.tensor(1.5, dtype=torch.bfloat16)),), 4: ()}},
    complex(1, -math.inf),
    [[[[[]]]]],
)


@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_what_is_nested_comes_back_as_it_was(suffix: str, tmp_path: Path) -> None:
    path = written(NESTED, tmp_path / f"value{suffix}")
    assert plain(read_values(path).value) == NESTED


def test_torch_reads_what_is_written_without_running_anything(tmp_path: Path) -> None:
    every = {dtype: inline(torch.tensor([1, 0]).to(getattr(torch, dtype))) for dtype in ITEM_SIZES}
    loaded = torch.load(written((NESTED, every), tmp_path / "o.pt"), weights_only=True)
    nested, tensors = loaded
    assert [str(tensor.dtype) for tensor in tensors.values()] == [f"torch.{dtype}" for dtype in ITEM_SIZES]
    assert {name: inline(tensor) for name, tensor in tensors.items()} == every
    assert torch.equal(nested[0], torch.arange(6.0).reshape(2, 3))
    assert nested[1] == NESTED[1]
    assert nested[2]["c"][3][0].dtype is torch.bfloat16
    assert nested[2]["a.b"].shape == (0, 2)
    assert nested[3:] == NESTED[3:]


def test_numpy_and_safetensors_read_what_is_written(tmp_path: Path) -> None:
    value = (
        inline(torch.arange(6).reshape(2, 3)),
        {"hidden": [inline(torch.ones(2, dtype=torch.float16)), 3]},
        None,
        True,
    )
    arrays = numpy.load(written(value, tmp_path / "o.npz"))
    assert arrays.files == ["0", "1.hidden.0", "1.hidden.1", "3"]
    assert arrays["0"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (arrays["1.hidden.0"].dtype, arrays["1.hidden.1"].tolist(), arrays["3"].tolist()) == (
        "float16",
        3,
        True,
    )
    tensors = safetensors.load_file(written(value, tmp_path / "o.safetensors"))
    assert sorted(tensors) == arrays.files
    assert tensors["0"].tolist() == arrays["0"].tolist()
    alone = written(inline(torch.ones(2, dtype=torch.float8_e5m2)), tmp_path / "alone.safetensors")
    assert safetensors.load_file(alone)["output"].dtype is torch.float8_e5m2


@pytest.mark.parametrize(
    ("value", "suffix", "said"),
    [
        ((1, "text"), ".npz", "The output 1 is a string"),
        (
            {"a": InlineTensor("bfloat16", (), b"\0\0")},
            ".npz",
            "The output a is bfloat16, which .npz does not have",
        ),
        ([1j], ".safetensors", "The output 0 is complex128"),
        ({"a.b": 1, "a": {"b": 2}}, ".npz", "Two outputs would be named 'a.b'"),
    ],
)
def test_what_a_format_has_no_form_for_is_named(value: Any, suffix: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InexpressibleError, match=said):
        written(value, tmp_path / f"o{suffix}")


@pytest.mark.parametrize("dtype", ITEM_SIZES)
def test_elements_are_rounded_as_torch_rounds_them(dtype: str) -> None:
    kind = getattr(torch, dtype)
    torch.manual_seed(1)
    if kind.is_complex or kind.is_floating_point:
        exact = torch.randn(500, dtype=torch.complex128 if kind.is_complex else torch.float64) * 10
        exact = exact.abs() if dtype == "float8_e8m0fnu" else exact
    else:
        exact = torch.arange(100) % 2 if dtype == "bool" else torch.arange(100)
    wanted = inline(exact.to(kind)).data
    assert pack(dtype, exact.tolist()) == wanted
    assert pack(dtype, unpack(dtype, wanted)) == wanted


@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
)
def test_every_byte_of_the_small_dtypes_has_torch_s_value(dtype: str) -> None:
    every = torch.arange(256).to(torch.uint8).view(getattr(torch, dtype)).to(torch.float64).tolist()
    ours = unpack(dtype, bytes(range(256)))
    assert [repr(number) for number in ours] == [repr(number) for number in every]


def test_what_torch_saves_is_read_with_its_containers(tmp_path: Path) -> None:
    view = torch.arange(12.0).reshape(3, 4).t()[1:3]
    torch.save([view, (view.shape, {"k": torch.nn.Parameter(torch.ones(2))}), 2 + 1j], tmp_path / "v.pt")
    saved: Any = read_values(tmp_path / "v.pt").value
    tensor, (shape, named), number = saved
    assert (tensor.shape, tensor.strides) == ((2, 3), (1, 4))
    assert plain(tensor) == inline(view)
    assert (shape, number, plain(named["k"])) == ((2, 3), 2 + 1j, inline(torch.ones(2)))


def test_safetensors_are_read_by_name(tmp_path: Path) -> None:
    tensors = {"10": torch.ones(2, dtype=torch.bfloat16), "9": torch.tensor(7), "é": torch.zeros(0, 3)}
    safetensors.save_file(tensors, tmp_path / "t.safetensors", metadata={"a": "b"})
    content = read_values(tmp_path / "t.safetensors")
    assert content.named
    assert list(content.value) == ["9", "10", "é"]  # type: ignore[arg-type]
    assert plain(content.value) == {name: inline(tensor) for name, tensor in tensors.items()}


def tensor(dtype: str, shape: Any, value: Any) -> dict[str, Any]:
    return {"type": "tensor", "data_type": dtype, "shape": shape, "value": value}


def test_the_marshalling_is_read(tmp_path: Path) -> None:
    document = [
        tensor("float32", [2, 2], [1, "NaN", "Infinity", "-Infinity"]),
        tensor("int64", [2, 1], [[1], [2]]),
        tensor("complex64", [2], [[1, 2], ["NaN", 0]]),
        tensor("complex64", [2, 1], [[[1, 2]], [[3, 4]]]),
        tensor("bool", [], [True]),
        tensor("float64", [0, 3], []),
        {"type": "scalar", "data_type": "float32", "value": 3},
        {"type": "dict", "value": [[1, {"type": "none"}], ["a", {"type": "tuple", "value": [1]}]]},
        {"type": "generic_dict", "value": {"type": {"type": "string", "value": "tensor"}}},
        None,
        "text",
    ]
    (tmp_path / "in.json").write_text(json.dumps(document))
    found: Any = read_values(tmp_path / "in.json").value
    assert isinstance(found, list)
    assert found[0].data == struct.pack("<4f", 1, math.nan, math.inf, -math.inf)
    assert found[1].data == struct.pack("<2q", 1, 2)
    assert found[3] == InlineTensor("complex64", (2, 1), struct.pack("<4f", 1, 2, 3, 4))
    assert found[4:] == [
        InlineTensor("bool", (), b"\1"),
        InlineTensor("float64", (0, 3), b""),
        3,
        {1: None, "a": (1,)},
        {"type": "tensor"},
        None,
        "text",
    ]
    assert value_of_text(json_text(found), "again") == found or math.isnan(
        unpack("float32", found[0].data)[1]
    )


WRONG = [
    ('[{"type":"tensor"', "not JSON: Expecting ',' delimiter: line 1 column 18"),
    (json.dumps([tensor("float32", [2], [1])]), r"at \$\[0\].value: 1 element, but shape \[2\] has 2"),
    (
        json.dumps(tensor("float32", [2, 2], [[1, 2], [3]])),
        r"at \$.value: its arrays are not nested as shape",
    ),
    (json.dumps(tensor("float32", [-1], [])), r"at \$.shape: \[-1\] has a negative size"),
    (json.dumps(tensor("float32", [1 << 62], [])), r"at \$.shape: a tensor of shape .* is too large"),
    (json.dumps(tensor("float32", [0, 1 << 62], [])), r"at \$.shape: a tensor of shape .* is too large"),
    (json.dumps(tensor("float32", [1.5], [])), r"at \$.shape: a shape must be"),
    (json.dumps(tensor("float32", [1] * 65, [1])), "cannot have 65 dimensions"),
    (json.dumps(tensor("float33", [1], [1])), "data_type 'float33' is unknown"),
    (json.dumps(tensor("uint8", [2], [1, 300])), r"at \$.value\[1\]: 300 does not fit uint8"),
    (json.dumps(tensor("float16", [1], [1e6])), r"at \$.value\[0\]: 1000000.0 does not fit float16"),
    (json.dumps(tensor("int8", [1], ["NaN"])), r'at \$.value\[0\]: "NaN" is not int8'),
    (json.dumps(tensor("int8", [1], [True])), r"at \$.value\[0\]: true is not int8"),
    (
        json.dumps({"type": "scalar", "data_type": "int64", "value": [1]}),
        r"at \$.value: an array is not int64",
    ),
    (json.dumps({"type": "dict", "value": [[None, 1]]}), r"at \$.value\[0\]\[0\]: a key must be"),
    (json.dumps({"value": 1}), r"at \$: has no type"),
    (json.dumps({"type": "object", "value": 1}), r"at \$: type 'object' is unknown"),
    (json.dumps({"type": "tuple"}), r"at \$: a tuple without a value"),
    (json.dumps({"type": "image", "value": "!"}), r"at \$.value: not base64"),
    (
        json.dumps({"type": "image", "value": base64.b64encode(b"text").decode()}),
        "not an image of a known format",
    ),
    ("[" * 100 + "]" * 100, "nested more than 64 levels deep"),
    ("[" * 100_000, "too deeply nested"),
    ("9" * 30, "does not fit int64"),
    ("[1" + "0" * 10_000 + "]", "a number in it is too long"),
    ("[1e999]", r"at \$\[0\]: a number that float64 cannot hold"),
    (json.dumps(tensor("float32", [2], [1, 0])).replace("0]", "-1e999]"), r"at \$.value\[1\]: a number that"),
    (
        json.dumps(tensor("complex64", [1], [[1, 7.5]])).replace("7.5", "1e999"),
        r"value\[0\]\[1\]: a number that",
    ),
    (json.dumps(tensor("float64", [1], [float("nan")])), "not JSON: NaN is no number of JSON"),
    (json.dumps(tensor("float64", [1], [float("-inf")])), "not JSON: -Infinity is no number of JSON"),
    (json.dumps(tensor("float64", [1], ["inf"])), r'at \$.value\[0\]: "inf" is not float64'),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=range(len(WRONG)))
def test_a_malformed_json_is_one_error_with_the_file_and_the_place(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.json"
    path.write_text(text)
    with pytest.raises(TorchlinkError, match=said) as caught:
        read_values(path)
    assert caught.value.message.startswith(str(path))
    assert caught.value.exit_code == 2
    assert len(caught.value.message) < 1000


def safetensors_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "raw",
    [
        safetensors_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 8),
        safetensors_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 4),
        safetensors_of({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_of({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_of({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}),
        safetensors_of({"a": 3}),
        safetensors_of(b"{" * 100_000),
        (1 << 60).to_bytes(8, "little") + b"{}",
    ],
    ids=range(9),
)
def test_a_lying_safetensors_file_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").write_bytes(raw)
    with pytest.raises(MalformedFileError, match=r"t\.safetensors"):
        read_values(tmp_path / "t.safetensors")


def png(width: int, height: int, color: int, rows: bytes, palette: bytes = b"") -> str:
    """A PNG in base64; `rows` have their filter bytes."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)), (b"PLTE", palette)]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
        if data or kind == b"IEND"
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


@pytest.mark.parametrize(
    ("text", "shape", "pixels"),
    [
        (png(2, 1, 2, bytes([0, 1, 2, 3, 4, 5, 6])), (1, 2, 3), [1, 2, 3, 4, 5, 6]),
        (
            png(2, 2, 2, bytes([1, 1, 2, 3, 1, 1, 1, 4, 1, 1, 1, 1, 1, 1])),
            (2, 2, 3),
            [1, 2, 3, 2, 3, 4, 2, 3, 4, 3, 4, 5],
        ),
        (png(1, 2, 0, bytes([2, 7, 3, 5])), (2, 1, 3), [7, 7, 7, 8, 8, 8]),
        (png(1, 1, 6, bytes([0, 9, 8, 7, 0])), (1, 1, 3), [9, 8, 7]),
        (png(2, 1, 3, bytes([0, 1, 0]), bytes([1, 2, 3, 4, 5, 6])), (1, 2, 3), [4, 5, 6, 1, 2, 3]),
    ],
)
def test_an_image_is_its_pixels(text: str, shape: tuple[int, ...], pixels: list[int]) -> None:
    found = value_of_text(json.dumps({"type": "image", "value": text}), "in.json")
    assert found == InlineTensor("uint8", shape, bytes(pixels))


def test_an_image_file_is_its_pixels(tmp_path: Path) -> None:
    (tmp_path / "i.png").write_bytes(base64.b64decode(png(2, 1, 2, bytes([0, 1, 2, 3, 4, 5, 6]))))
    assert read_values(tmp_path / "i.png").value == InlineTensor(
        "uint8", (1, 2, 3), bytes([1, 2, 3, 4, 5, 6])
    )
    (tmp_path / "i.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(MalformedFileError, match=r"i\.jpg: a (damaged )?JPEG image"):
        read_values(tmp_path / "i.jpg")


def test_a_bomb_in_an_image_is_refused() -> None:
    huge = png(60_000, 60_000, 2, b"\0" * 1000)
    with pytest.raises(MalformedFileError, match="too large"):
        value_of_text(json.dumps({"type": "image", "value": huge}), "in.json")
    short = png(100, 100, 2, b"\0" * 1_000_000)
    with pytest.raises(MalformedFileError, match="damaged"):
        value_of_text(json.dumps({"type": "image", "value": short}), "in.json")


def test_compressed_arrays_of_moderate_size_are_unpacked(tmp_path: Path) -> None:
    numpy.savez_compressed(
        tmp_path / "c.npz", a=numpy.arange(6, dtype="i2").reshape(2, 3), b=numpy.float32(3)
    )
    assert read_values(tmp_path / "c.npz").value == {
        "a": InlineTensor("int16", (2, 3), struct.pack("<6h", *range(6))),
        "b": InlineTensor("float32", (), struct.pack("<f", 3)),
    }
    numpy.savez_compressed(tmp_path / "large.npz", a=numpy.zeros(20 << 20, dtype="u1"))
    numpy.savez_compressed(tmp_path / "fortran.npz", a=numpy.asfortranarray(numpy.ones((2, 3))))
    for name in ("large.npz", "fortran.npz"):
        with pytest.raises(MalformedFileError, match="compressed"):
            read_values(tmp_path / name)
