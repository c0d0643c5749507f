"""What the C API does: python through_ctypes.py WRAPPER MODELS CHECK. The wrapper is that of the kind `python`."""

import concurrent.futures
import ctypes
import functools
import gc
import importlib.util
import os
import resource
import sys
import tempfile
from array import array
from ctypes import byref, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

spec = importlib.util.spec_from_file_location("torchmodel", sys.argv[1])
assert spec is not None
assert spec.loader is not None
tm: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tm)
c = tm._c
models = Path(sys.argv[2])
RELEASE = ctypes.CFUNCTYPE(None, c_void_p)
OK, ARGUMENT, FILE, TYPE, MODEL, MEMORY, UNSUPPORTED = range(7)
NULL = c_void_p()
library = ctypes.CDLL(str(tm.LIBRARY))  # the same functions, whose statuses are not checked
library.tm_last_error.restype = c_char_p


def call(model: Any, method: Any, *arguments: Any, **keywords: Any) -> Any:
    if model is None:  # a library for packages, which has no TorchScript: the value itself
        given = tm.value(arguments[0])
        return tm.Value(c.tm_value_copy, given._handle)
    values, named = [tm.value(each) for each in arguments], [tm.value(each) for each in keywords.values()]
    names = (c_char_p * len(keywords))(*(name.encode() for name in keywords))
    out = c_void_p()
    status = library.tm_model_call(
        model._handle,
        method.encode(),
        tm._handles(values),
        c_size_t(len(values)),
        names,
        tm._handles(named),
        c_size_t(len(named)),
        byref(out),
    )
    if status:
        raise tm.TorchError(f"{status}: {library.tm_last_error().decode()}")
    value = object.__new__(tm.Value)
    value._handle = out
    return value


def refused(status: Any, *expected: Any) -> None:
    message = library.tm_last_error().decode()
    assert status == expected[0], (status, message)
    assert all(text in message for text in expected[1:]), message
    assert "Exception raised from" not in message, message


PACKAGES_ONLY = (tm.LIBRARY.parent / "torchmodel.c").exists()  # of torchlink capi --aoti-only


def error_of(action: Any) -> Any:
    try:
        action()
    except tm.TorchError as error:
        return str(error)
    raise AssertionError("it did not fail")


def together(work: Any) -> None:
    """Call it with 0 to 7 in as many threads at once."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def everything() -> Any:
    return None if PACKAGES_ONLY else tm.Model(models / "everything.pt")


def complex_value(number: Any) -> Any:
    return tm.Value(library.tm_value_complex, c_double(number.real), c_double(number.imag))


def shown(plain: Any) -> Any:
    if isinstance(plain, tm.Value):
        return list(plain.numbers())
    if isinstance(plain, (list, tuple)):
        return type(plain)(shown(item) for item in plain)
    if isinstance(plain, dict):
        return {key: shown(item) for key, item in plain.items()}
    return plain


def check_values() -> None:
    model = everything()
    ones = tm.tensor([[1.0, 2.0]])
    plain = [
        *(None, True, False, 0, -(2**63), 2**63 - 1, 1.5, "", "žlutý\0kůň", [], (), {}),
        *([1, 2], (1, "a", None), {"a": [1, (2.5, {"b": "c"})]}, {3: "three", 1: "one"}, [[], [[None]]]),
    ]
    for each in plain:
        assert call(model, "echo", each).plain() == each, each
    assert call(model, "echo", complex_value(1 - 2j)).plain() == 1 - 2j
    out = call(model, "echo", (ones, [ones], {"t": ones}))
    assert shown(out.plain()) == ([1, 2], [[1, 2]], {"t": [1, 2]})
    if model is None:
        return
    given: Any = (None, True, 1.5, complex_value(2j), "text", [ones], (1, "x"), {"k": [1, 2]})
    back = (None, False, 3.0, 4j, "text!", [[1, 2]], (2, "x"), {"k": [1, 2]})
    assert shown(call(model, "typed", *given).plain()) == back
    # A whole number stands for a float, a list for a tuple, as in Python; an empty list has the declared type.
    given = (3, False, 1, 2, "", [], [5, "y"], {})
    assert shown(call(model, "typed", *given).plain()) == (3, True, 2.0, 4, "!", [], (6, "y"), {})


def check_dtypes() -> None:
    sizes = {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 8: 4, 9: 8, 10: 16, 11: 1, 15: 2, 23: 1, 24: 1}
    sizes |= {27: 2, 28: 4, 29: 8}
    model = everything()
    for dtype, size in sizes.items():
        got = c_size_t()
        assert library.tm_dtype_size(dtype, byref(got)) == OK
        assert got.value == size, dtype
        data = bytes(number % 2 for number in range(size * 6))  # bools are 0 or 1
        tensor = tm.Value(c.tm_tensor_copy, data, dtype, (c_int64 * 2)(2, 3), 2, None)
        back = call(model, "echo", tensor)
        info = back._info()
        assert (info.dtype, info.element_size, info.elements, info.is_cpu) == (dtype, size, 6, 1)
        assert ctypes.string_at(info.data, len(data)) == data
        buffer = ctypes.create_string_buffer(len(data))
        c.tm_tensor_read(back._handle, buffer, len(data))
        assert buffer.raw == data
        refused(library.tm_tensor_read(back._handle, buffer, c_size_t(len(data) - 1)), ARGUMENT, "bytes")
    for dtype in (-1, 12, 13, 14, 1000, 2**31 - 1):
        refused(library.tm_dtype_size(dtype, byref(c_size_t())), ARGUMENT, str(dtype))
    numbers = tm.tensor([1.75, -2.5])
    wide = tm.Value(c.tm_tensor_to_dtype, numbers._handle, 3)
    assert (wide._info().dtype, list(wide.numbers())) == (3, [1, -2])


def check_strides() -> None:
    model = everything()
    data = array("f", range(6))
    address, _ = data.buffer_info()
    columns = tm.Value(
        c.tm_tensor_borrow, address, 6, (c_int64 * 2)(3, 2), 2, (c_int64 * 2)(1, 3), None, None
    )
    info = columns._info()
    assert (info.is_contiguous, info.data, info.strides[:2]) == (0, address, [1, 3])
    assert list(columns.numbers()) == [0, 3, 1, 4, 2, 5]
    assert model is None or list(call(model, "forward", columns).numbers()) == [1, 7, 3, 9, 5, 11]
    broadcast = tm.Value(c.tm_tensor_copy, address, 6, (c_int64 * 2)(2, 2), 2, (c_int64 * 2)(0, 1))
    assert list(broadcast.numbers()) == [0, 1, 0, 1]
    dense = tm.Value(c.tm_tensor_to_cpu, columns._handle)
    assert dense._info().is_contiguous == 1
    scalar = tm.Value(c.tm_tensor_copy, address, 6, None, 0, None)
    assert (scalar.shape, list(scalar.numbers())) == ((), [0])
    empty = tm.Value(c.tm_tensor_copy, None, 6, (c_int64 * 2)(0, 3), 2, None)
    assert (empty.shape, list(call(model, "forward", empty).numbers())) == ((0, 3), [])
    if model is None:
        return
    # A lazily conjugated tensor is written out, wherever its data is read.
    made = tm.Value(c.tm_tensor_copy, array("f", [1, 2]).tobytes(), 9, (c_int64 * 1)(1), 1, None)
    conjugated = call(model, "lazily", made)
    assert array("f", ctypes.string_at(conjugated._info().data, 8)).tolist() == [1, -2]


def check_borrowed() -> None:
    model = everything()
    calls: list[Any] = []
    callback = RELEASE(calls.append)
    release = ctypes.cast(callback, c_void_p)
    data = array("f", [1, 2, 3])
    address, _ = data.buffer_info()

    def borrowed() -> Any:
        return tm.Value(c.tm_tensor_borrow, address, 6, (c_int64 * 1)(3), 1, None, release, c_void_p(42))

    tensor = borrowed()
    assert tensor._info().data == address
    data[0] = 5
    assert list(tensor.numbers()) == [5, 2, 3]
    copy = tm.Value(c.tm_value_copy, tensor._handle)
    del tensor
    assert calls == []
    del copy
    assert calls == [42]
    call(model, "keep", borrowed())
    gc.collect()
    if model is None:
        assert calls == [42, 42]
        return
    assert calls == [42]  # the model has it
    assert call(model, "keep", tm.tensor([0.0])).plain() == 1
    assert calls == [42, 42]
    call(model, "keep", borrowed())
    del model
    assert calls == [42] * 3
    status = library.tm_tensor_borrow(
        c_void_p(address), 6, (c_int64 * 1)(-3), 1, None, release, c_void_p(42), byref(NULL)
    )
    refused(status, ARGUMENT, "-3")
    assert calls == [42] * 3


def check_shapes() -> None:
    data = (ctypes.c_float * 4)()
    most = 2**63 - 1
    bad: list[Any] = [
        ((-1,), None),
        ((2**62, 4), None),
        ((most,), None),
        ((2**32, 2**32), None),
        ((2, 2), (-1, 1)),
    ]
    bad += [((2, 2), (most, 1)), ((3,), (2**62,)), ((most, most, 2), None)]
    for function in (library.tm_tensor_copy, library.tm_tensor_borrow):
        more = (None, None) if function is library.tm_tensor_borrow else ()
        for shape, strides in bad:
            sizes = (c_int64 * len(shape))(*shape)
            steps = (c_int64 * len(shape))(*strides) if strides else None
            refused(function(data, 6, sizes, len(shape), steps, *more, byref(c_void_p())), ARGUMENT)
        for dimensions in (-1, 65, 2**31 - 1):
            refused(function(data, 6, (c_int64 * 1)(1), dimensions, None, *more, byref(c_void_p())), ARGUMENT)
        refused(
            function(None, 6, (c_int64 * 1)(1), 1, None, *more, byref(c_void_p())), ARGUMENT, "data is null"
        )
        refused(function(data, 6, None, 1, None, *more, byref(c_void_p())), ARGUMENT, "shape is null")


def check_null() -> None:
    """Every function with every pointer null returns a status."""
    header = (Path(sys.argv[1]).parent / ".torchlink" / "capi" / "torchmodel.h").read_text()
    names = {word for word in header.replace("(", " ").split() if word.startswith("tm_") and "(" not in word}
    functions = sorted(name for name in names if hasattr(library, name))
    assert len(functions) > 50
    free = {"tm_version", "tm_libtorch_version", "tm_last_error", "tm_model_free", "tm_value_free", "tm_seed"}
    for name in functions:
        if name in free or name.startswith("tm_set"):
            continue
        status = getattr(library, name)(*[NULL] * 8)
        assert status == ARGUMENT, name
        assert (
            "null" in library.tm_last_error().decode() or "dimensions" in library.tm_last_error().decode()
        ), name
    assert library.tm_model_free(None) == OK
    assert library.tm_value_free(None) == OK
    refused(library.tm_set_threads(0), ARGUMENT, "0")


def check_nested() -> None:
    """What is freed item by item is bounded; a whole stack would not do for any depth."""
    key = tm.value("key")
    for maker in (library.tm_value_list, library.tm_value_tuple, None):
        value = tm.value(1)
        for depth in range(1, 1002):
            out = c_void_p()
            handles = tm._handles([value])
            if maker is not None:
                status = maker(handles, c_size_t(1), byref(out))
            else:
                assert library.tm_value_dict(byref(out)) == OK
                status = library.tm_value_dict_set(out, key._handle, value._handle)
            if depth == 1001:
                refused(status, ARGUMENT, "1000")
                break
            assert status == OK, library.tm_last_error()
            value = object.__new__(tm.Value)
            value._handle = out
        inner = c_void_p()
        assert library.tm_value_item(value._handle, c_size_t(0), byref(inner)) == OK
        assert (
            library.tm_value_list((c_void_p * 1)(inner), c_size_t(1), byref(c_void_p())) == OK
        )  # one less, one more


def check_messages() -> None:
    """In UTF-8 whatever the caller gives; and nothing waits for the writer of a pipe."""
    for name in (b"\xff\xfe.pt", b"\xe2\x82", b"\xed\xa0\x80", b"x\xf4\x90\x80\x80"):
        assert library.tm_model_load(name, None, byref(NULL)) == FILE
        assert "?" in library.tm_last_error().decode()
    assert library.tm_model_load("ü€😀.pt".encode(), None, byref(NULL)) == FILE
    assert library.tm_last_error().decode().startswith("ü€😀.pt: ")
    with tempfile.TemporaryDirectory() as directory:
        pipe = Path(directory) / "pipe"
        os.mkfifo(pipe)
        for path in (pipe, Path("/dev/zero")):
            refused(library.tm_model_load(str(path).encode(), None, byref(NULL)), FILE, "not a regular file")
    for size in (2**62, 2**64 - 2, 2**64 - 1):
        assert library.tm_value_string(b"x", c_size_t(size), byref(NULL)) == MEMORY, size


def check_calls() -> None:
    model = everything()
    ones = tm.tensor([1.0])
    assert list(call(model, "forward", ones).numbers()) == [3]
    assert list(call(model, "forward", ones, 3).numbers()) == [4]
    assert list(call(model, "forward", ones, offset=5).numbers()) == [7]
    assert list(call(model, "forward", x=ones, scale=1.5, offset=5).numbers()) == [6.5]
    for arguments, keywords, text in [
        ((1,), {}, "'x'"),
        (("text",), {}, "'x'"),
        ((ones, "text"), {}, "'scale'"),
        ((), {}, "'x'"),
        ((ones,), {"unknown": 1}, "unknown"),
        ((ones,), {"x": ones}, "x"),
        ((ones, 1.0, 2, 3), {}, "forward"),
    ]:
        error = error_of(functools.partial(call, model, "forward", *arguments, **keywords))
        assert error.startswith(f"{TYPE}: "), error
        assert text in error, error
        assert "Exception raised from" not in error, error
    pair, right = call(model, "named", ones), c_void_p()
    assert shown(pair.plain()) == ([1], 7)
    c_get = library.tm_value_get
    assert c_get(pair._handle, b"right", byref(right)) == OK
    number = c_int64()
    assert library.tm_value_get_int(right, byref(number)) == OK
    assert number.value == 7
    library.tm_value_free(right)
    refused(c_get(pair._handle, b"middle", byref(right)), ARGUMENT, "middle")
    count, names = c_size_t(), []
    library.tm_model_method_count(model._handle, byref(count))
    for index in range(count.value):
        name = c_char_p()
        assert library.tm_model_method_name(model._handle, c_size_t(index), byref(name)) == OK
        names.append(str(name.value, "utf-8") if name.value else "")
    assert {"forward", "echo", "typed", "keep", "named", "fails"} <= set(names)
    listed: list[Any] = []
    for index in range(3):
        argument = tm.Argument()
        c.tm_model_argument(model._handle, b"forward", index, byref(argument))
        listed.append((argument.name, argument.type, argument.default_text, argument.keyword_only))
    assert listed == [
        (b"x", b"Tensor", b"", 0),
        (b"scale", b"float", b"2.", 0),
        (b"offset", b"int", b"1", 0),
    ]
    default = tm.Value(library.tm_model_argument_default, model._handle, b"forward", c_size_t(1))
    assert default.plain() == 2.0
    kind = c_char_p()
    assert library.tm_model_return_type(model._handle, b"named", byref(kind)) == OK
    assert "Pair" in str(kind.value)
    refused(
        library.tm_model_argument_count(model._handle, b"missing", byref(count)),
        ARGUMENT,
        "missing",
        "forward",
    )


def check_exceptions() -> None:
    model = everything()
    ones = tm.tensor([1.0])
    error = error_of(lambda: call(model, "fails", ones))
    assert error.startswith(f"{MODEL}: "), error
    assert "the model says no" in error, error
    assert list(call(model, "forward", ones).numbers()) == [3]


def check_threads() -> None:
    model = everything()

    def work(number: Any) -> None:
        for _ in range(50):
            got = list(call(model, "forward", tm.tensor([float(number)]), 1.0).numbers())
            assert got == [number + 1], got
            index = 1000 + number
            status = library.tm_model_method_name(model._handle, c_size_t(index), byref(NULL))
            refused(status, ARGUMENT, str(index))

    together(work)


def check_memory() -> None:
    data = (models / "everything.pt").read_bytes()
    out = c_void_p()
    assert library.tm_model_load_memory(data, c_size_t(len(data)), b"cpu", byref(out)) == OK
    model = object.__new__(tm.Model)
    model._handle = out
    del data
    assert list(call(model, "forward", tm.tensor([1.0])).numbers()) == [3]
    for name in ("exported.pt2", "weights.pt", "garbage.pt", "broken.pt"):
        bad = (models / name).read_bytes()
        refused(library.tm_model_load_memory(bad, c_size_t(len(bad)), None, byref(out)), FILE, "in memory")
    refused(library.tm_model_load_memory(b"", c_size_t(0), None, byref(out)), FILE, "in memory")


def check_growth() -> None:
    def used() -> Any:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10

    for number in range(200):
        model = everything()
        call(model, "forward", tm.tensor([1.0]))
        del model
        if number == 60:
            before = used()
    assert used() - before < 5000, used() - before


def check_files() -> None:
    for name, *texts in (
        ("missing.pt", "No such file"),
        (".", "directory"),
        ("empty.pt", "empty"),
        ("garbage.pt", "neither a TorchScript model nor an AOTInductor package"),
        ("broken.pt", "a damaged archive: it ends too early"),
        ("exported.pt2", "ExportedProgram", "aoti_compile_and_package"),
        ("weights.pt", "torch.save", "torch.jit.script"),
    ):
        path = str(models / name)
        refused(library.tm_model_load(path.encode(), None, byref(NULL)), FILE, path, *texts)
        assert "\n" not in library.tm_last_error().decode().strip(), library.tm_last_error()
    model = str(models / "everything.pt").encode()
    refused(library.tm_model_load(model, b"nowhere", byref(NULL)), ARGUMENT, "nowhere")
    refused(library.tm_model_load_named(model, b"one", None, byref(NULL)), ARGUMENT, "one")


def check_packages() -> None:
    layer = tm.Model(models / "layer.pt2")
    assert layer.forward(tm.tensor([[1.0, 2, 3, 4]] * 5)).shape == (5, 3)
    assert layer.example_shapes() == [(2, 4)]
    assert library.tm_last_error() == b""
    refuse(layer, TYPE, 5)
    refuse(layer, MODEL, tm.tensor([[1.0, 2, 3]] * 5))
    refuse(layer, TYPE, tm.tensor([1.0]), tm.tensor([1.0]))
    refused(
        library.tm_model_load(str(models / "two.pt2").encode(), None, byref(NULL)), ARGUMENT, "one", "other"
    )
    two = c_void_p()
    assert library.tm_model_load_named(str(models / "two.pt2").encode(), b"other", None, byref(two)) == OK
    library.tm_model_free(two)
    refused(
        library.tm_model_load_named(str(models / "two.pt2").encode(), b"third", None, byref(two)),
        *(ARGUMENT, "third", "one", "other"),
    )
    outside = str(models / "outside.pt2").encode()
    refused(library.tm_model_load(outside, None, byref(NULL)), UNSUPPORTED, "weights", "fc.")
    many = tm.Model(models / "many.pt2")
    raw = {name: many_tensor(*shape) for name, shape in MANY.items()}
    positions = (raw["ids"], (raw["pair0"], raw["pair1"]), 2.0, raw["channels"])
    got = call(many, "forward", *positions, mask=raw["mask"], options={"b": raw["b"], "a": raw["a"]})
    plain = got.plain()
    assert list(plain) == ["h", "rest"]
    assert plain["h"].shape == (2, 5, 4)
    assert list(plain["h"].numbers()) == [4.0] * 40
    assert plain["rest"][0] is None
    assert list(plain["rest"][1][1].numbers()) == [0.5, 0.5]
    assert plain["rest"][2].shape == (1, 3, 4, 4)
    refuse(many, TYPE, *positions)
    refuse(
        many,
        TYPE,
        positions[0],
        raw["a"],
        2.0,
        raw["channels"],
        mask=raw["mask"],
        options={"b": raw["b"], "a": raw["a"]},
    )
    error = error_of(lambda: call(many, "forward", *positions, mask=raw["mask"], options={"b": raw["b"]}))
    assert "options must be a dict with the keys" in error, error
    data = (models / "layer.pt2").read_bytes()
    out = c_void_p()
    assert library.tm_model_load_memory(data, c_size_t(len(data)), None, byref(out)) == OK
    library.tm_model_free(out)

    def work(_: Any) -> None:
        for _ in range(20):
            layer.forward(tm.tensor([[1.0, 2, 3, 4]] * 5))

    together(work)


def check_packages_only() -> None:
    """What a library of torchlink capi --aoti-only does not do; and archives that are none."""
    status = library.tm_model_load(str(models / "everything.pt").encode(), None, byref(NULL))
    refused(status, UNSUPPORTED, "a TorchScript model", "--aoti-only")
    refused(library.tm_seed(1), UNSUPPORTED, "--aoti-only")
    for name in ("missing.pt", "empty.pt", "garbage.pt", "broken.pt", "exported.pt2", "weights.pt"):
        refused(library.tm_model_load(str(models / name).encode(), None, byref(NULL)), FILE, name)
    refused(library.tm_model_load(str(models / "layer.pt2").encode(), b"cuda", byref(NULL)), ARGUMENT, "cuda")
    count, threads = c_int32(), c_int32()
    assert library.tm_device_count(byref(count)) == OK
    assert count.value == 1
    assert library.tm_set_threads(3) == OK
    assert library.tm_get_threads(byref(threads)) == OK
    assert threads.value == 3


def check_changed() -> None:
    """Packages that were changed: files named as `STATUS-TEXT.pt2`; those of status 0 load."""
    for path in sorted((models / "changed").iterdir()):
        status, _, text = path.stem.partition("-")
        out = c_void_p()
        got = library.tm_model_load(str(path).encode(), None, byref(out))
        if status == "0":
            assert got == OK, (path, library.tm_last_error())
            library.tm_model_free(out)
        else:
            refused(got, int(status), text)


def check_flipped() -> None:
    """No byte of an archive's table of contents can be changed so that reading it crashes."""
    whole = (models / "layer.pt2").read_bytes()
    table = whole.index(b"PK\1\2")
    state = 1
    for _ in range(1500):
        data = bytearray(whole[:200] + whole[table:] if _ % 2 else whole[table - 100 :])
        for _ in range(3):
            state = state * 6364136223846793005 + 1442695040888963407 & (2**64 - 1)
            data[len(data) - 1 - (state >> 33) % min(len(data), 1500)] = state >> 24 & 255
        out = c_void_p()
        assert library.tm_model_load_memory(bytes(data), c_size_t(len(data)), None, byref(out)) != OK


# shape, dtype of the C API, bytes of one element that is 1
MANY = {
    "ids": ((2, 5), 4, (1).to_bytes(8, "little")),
    "pair0": ((2, 5, 4), 15, b"\x80\x3f"),
    "pair1": ((), 9, array("f", [1, 0]).tobytes()),
    "channels": ((1, 3, 4, 4), 6, array("f", [1]).tobytes()),
    "mask": ((2, 5), 11, b"\1"),
    "a": ((2,), 6, array("f", [0.5]).tobytes()),
    "b": ((2,), 6, array("f", [1]).tobytes()),
}


def many_tensor(shape: Any, dtype: Any, one: Any) -> Any:
    elements = 1
    for size in shape:
        elements *= size
    strides = (c_int64 * 4)(48, 1, 12, 3) if len(shape) == 4 else None
    data = ctypes.create_string_buffer(one * elements, len(one) * elements)
    value = tm.Value(
        c.tm_tensor_borrow, data, dtype, (c_int64 * len(shape))(*shape), len(shape), strides, None, None
    )
    value.data = data
    return value


def refuse(model: Any, status: Any, *arguments: Any, **keywords: Any) -> None:
    error = error_of(lambda: call(model, "forward", *arguments, **keywords))
    assert error.startswith(f"{status}: "), error
    assert len(error.splitlines()) == 1, error


c.tm_tensor_borrow.argtypes = [c_void_p, c_int32, c_void_p, c_int32, c_void_p, c_void_p, c_void_p, c_void_p]
c.tm_value_copy.argtypes = c.tm_tensor_to_cpu.argtypes = [c_void_p, c_void_p]
c.tm_value_copy.errcheck = c.tm_tensor_borrow.errcheck = c.tm_tensor_to_cpu.errcheck = tm._raise
globals()[f"check_{sys.argv[3]}"]()
print("checked")
