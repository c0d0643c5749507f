"""TorchScript models and AOTInductor packages in plain Python: ctypes over the C API in .torchlink/capi.

Neither torch nor numpy is imported. Models and values are freed with their objects.
"""

import ctypes
from array import array
from ctypes import POINTER, byref, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

LIBRARY = Path(__file__).parent / ".torchlink" / "capi" / "libtorchmodel.so"
KINDS = ("none", "bool", "int", "float", "complex", "string", "tensor", "list", "tuple", "dict", "other")
# The typecode of `array.array` -> the dtype of the C API.
DTYPES = {"B": 0, "b": 1, "h": 2, "i": 3, "q": 4, "f": 6, "d": 7, "H": 27, "I": 28, "Q": 29}
FLOAT64 = DTYPES["d"]
MOST_DIMENSIONS = 64


class TensorInfo(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("elements", c_int64),
        ("dimensions", c_int32),
        ("dtype", c_int32),
        ("element_size", c_int32),
        ("is_contiguous", c_int32),
        ("is_cpu", c_int32),
    ]


class Argument(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("type", c_char_p),
        ("default_text", c_char_p),
        ("has_default", c_int32),
        ("keyword_only", c_int32),
    ]


class TorchError(Exception):
    """What libtorch or the C API said of a failure."""


def _library():
    library = ctypes.CDLL(str(LIBRARY))
    library.tm_last_error.restype = c_char_p
    handle, out = c_void_p, POINTER(c_void_p)
    signatures = {
        "tm_model_load": (c_char_p, c_char_p, out),
        "tm_model_free": (handle,),
        "tm_model_argument_count": (handle, c_char_p, POINTER(c_size_t)),
        "tm_model_argument": (handle, c_char_p, c_size_t, POINTER(Argument)),
        "tm_model_example_shape": (handle, c_char_p, c_size_t, POINTER(c_int64), POINTER(c_int32)),
        "tm_model_forward": (handle, POINTER(c_void_p), c_size_t, out),
        "tm_value_none": (out,),
        "tm_value_bool": (c_int32, out),
        "tm_value_int": (c_int64, out),
        "tm_value_float": (c_double, out),
        "tm_value_string": (c_char_p, c_size_t, out),
        "tm_value_list": (POINTER(c_void_p), c_size_t, out),
        "tm_value_tuple": (POINTER(c_void_p), c_size_t, out),
        "tm_value_dict": (out,),
        "tm_value_dict_set": (handle, handle, handle),
        "tm_value_free": (handle,),
        "tm_value_kind": (handle, POINTER(c_int32)),
        "tm_value_get_bool": (handle, POINTER(c_int32)),
        "tm_value_get_int": (handle, POINTER(c_int64)),
        "tm_value_get_float": (handle, POINTER(c_double)),
        "tm_value_get_complex": (handle, POINTER(c_double), POINTER(c_double)),
        "tm_value_get_string": (handle, POINTER(c_void_p), POINTER(c_size_t)),
        "tm_value_length": (handle, POINTER(c_size_t)),
        "tm_value_item": (handle, c_size_t, out),
        "tm_value_key": (handle, c_size_t, out),
        "tm_tensor_copy": (c_void_p, c_int32, POINTER(c_int64), c_int32, POINTER(c_int64), out),
        "tm_tensor_get_info": (handle, POINTER(TensorInfo)),
        "tm_tensor_to_dtype": (handle, c_int32, out),
        "tm_tensor_read": (handle, c_void_p, c_size_t),
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int32
        function.errcheck = _raise
    return library


def _raise(status, function, arguments):
    if status != 0:
        raise TorchError(_c.tm_last_error().decode())


_c = _library()


class Value:
    """Anything that a model takes or returns."""

    def __init__(self, write, *arguments):
        handle = c_void_p()
        write(*arguments, byref(handle))
        self._handle = handle

    def __del__(self):
        if getattr(self, "_handle", None):
            _c.tm_value_free(self._handle)

    @property
    def kind(self):
        kind = c_int32()
        _c.tm_value_kind(self._handle, byref(kind))
        return KINDS[kind.value]

    @property
    def shape(self):
        """The sizes of a tensor."""
        info = self._info()
        return tuple(info.shape[: info.dimensions])

    def numbers(self):
        """The elements of a tensor in row-major order, as an array of float64."""
        wide = Value(_c.tm_tensor_to_dtype, self._handle, FLOAT64)
        numbers = array("d", bytes(8 * wide._info().elements))
        address, length = numbers.buffer_info()
        _c.tm_tensor_read(wide._handle, address, 8 * length)
        return numbers

    def plain(self):
        """The value as Python's own: None, bool, int, float, complex, str, list, tuple, dict; tensors stay values."""
        kind = self.kind
        if kind in ("list", "tuple"):
            items = [item.plain() for item in self._each(_c.tm_value_item)]
            return items if kind == "list" else tuple(items)
        if kind == "dict":
            keys = [key.plain() for key in self._each(_c.tm_value_key)]
            return dict(zip(keys, (item.plain() for item in self._each(_c.tm_value_item)), strict=True))
        if kind == "string":
            text, size = c_void_p(), c_size_t()
            _c.tm_value_get_string(self._handle, byref(text), byref(size))
            return ctypes.string_at(text, size.value).decode()
        if kind == "complex":
            real, imaginary = c_double(), c_double()
            _c.tm_value_get_complex(self._handle, byref(real), byref(imaginary))
            return complex(real.value, imaginary.value)
        readers = {
            "bool": (c_int32, _c.tm_value_get_bool),
            "int": (c_int64, _c.tm_value_get_int),
            "float": (c_double, _c.tm_value_get_float),
        }
        if kind in readers:
            type_, read = readers[kind]
            out = type_()
            read(self._handle, byref(out))
            return bool(out.value) if kind == "bool" else out.value
        return None if kind == "none" else self

    def _info(self):
        info = TensorInfo()
        _c.tm_tensor_get_info(self._handle, byref(info))
        return info

    def _each(self, read):
        length = c_size_t()
        _c.tm_value_length(self._handle, byref(length))
        return [Value(read, self._handle, index) for index in range(length.value)]


def tensor(numbers, shape=None, typecode="f"):
    """A tensor of nested lists of numbers, or of an array and a shape; the typecode is that of `array.array`."""
    if shape is None:
        shape, level = [], numbers
        while isinstance(level, (list, tuple)):
            shape.append(len(level))
            level = level[0] if level else None
        flat = numbers
        for size in shape[1:]:
            if any(not isinstance(part, (list, tuple)) or len(part) != size for part in flat):
                raise ValueError("the rows have different lengths")
            flat = [item for part in flat for item in part]
        numbers = flat if shape else [numbers]
    data = numbers if isinstance(numbers, array) else array(typecode, numbers)
    elements = 1
    for size in shape:
        elements *= size
    if elements != len(data):
        raise ValueError(f"the shape {tuple(shape)} does not have {len(data)} elements")
    sizes = (c_int64 * len(shape))(*shape)
    address, _ = data.buffer_info()
    return Value(_c.tm_tensor_copy, address, DTYPES[data.typecode], sizes, len(shape), None)


def value(plain):
    """A value of None, a bool, an int, a float, a string, a list, a tuple or a dict; values stay as they are."""
    if isinstance(plain, Value):
        return plain
    if plain is None:
        return Value(_c.tm_value_none)
    if isinstance(plain, bool):
        return Value(_c.tm_value_bool, plain)
    if isinstance(plain, int):
        return Value(_c.tm_value_int, plain)
    if isinstance(plain, float):
        return Value(_c.tm_value_float, plain)
    if isinstance(plain, str):
        text = plain.encode()
        return Value(_c.tm_value_string, text, len(text))
    if isinstance(plain, (list, tuple)):
        items = [value(item) for item in plain]
        write = _c.tm_value_list if isinstance(plain, list) else _c.tm_value_tuple
        return Value(write, _handles(items), len(items))
    if isinstance(plain, dict):
        made = Value(_c.tm_value_dict)
        for key, item in plain.items():
            entry = value(key), value(item)  # which must live until the call
            _c.tm_value_dict_set(made._handle, entry[0]._handle, entry[1]._handle)
        return made
    raise TypeError(f"a model does not take {type(plain).__name__}")


def _handles(values):
    return (c_void_p * len(values))(*(each._handle.value for each in values))


class Model:
    """A TorchScript model or an AOTInductor package. Threads may share it: a call releases Python's lock."""

    def __init__(self, path, device="cpu"):
        handle = c_void_p()
        _c.tm_model_load(str(path).encode(), device.encode(), byref(handle))
        self._handle = handle

    def __del__(self):
        if getattr(self, "_handle", None):
            _c.tm_model_free(self._handle)

    def forward(self, *arguments):
        """Call forward; missing arguments take their defaults."""
        values = [value(argument) for argument in arguments]
        return Value(_c.tm_model_forward, self._handle, _handles(values), len(values))

    def example_shapes(self):
        """A shape for each argument of forward that has no default: a guess from the weights."""
        count, shapes = c_size_t(), []
        _c.tm_model_argument_count(self._handle, b"forward", byref(count))
        for index in range(count.value):
            argument, shape, dimensions = Argument(), (c_int64 * MOST_DIMENSIONS)(), c_int32()
            _c.tm_model_argument(self._handle, b"forward", index, byref(argument))
            if argument.has_default:
                break
            _c.tm_model_example_shape(self._handle, b"forward", index, shape, byref(dimensions))
            shapes.append(tuple(shape[: dimensions.value]))
        return shapes
