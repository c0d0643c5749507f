## TorchScript models and AOTInductor packages for Nim, through the C API in .torchlink/capi.
##
## .. code-block:: nim
##   let model = loadModel("model.pt")
##   let output = model.forward(tensor(@[@[1'f32, 2, 3, 4]]))
##   echo output.shape, " ", output.elements(float32)
##
## Failures raise a `TorchError`, wrong arguments a `ValueError`. Models and values are freed by Nim's memory management, or at once
## by `close`. Works with `nim c` and `nim cpp`: libtorch's C++ stays inside the C API.

import std/[os, strutils]

const capi = currentSourcePath().parentDir / ".torchlink" / "capi"

# The program finds the C API relative to itself, from this directory or one in it.
{.passL: "-L" & quoteShell(capi) & " -ltorchmodel '-Wl,-rpath,$ORIGIN/.torchlink/capi:$ORIGIN/../.torchlink/capi'".}

type
  Kind* = enum  ## What a value is, in the order of the C API.
    none, boolean = "bool", integer = "int", floating = "float", complex, text = "string",
    tensorValue = "tensor", list, tuples = "tuple", dict, other

  Element* = float32 | float64 | int64 | int | int32 | int16 | int8 | uint8 | uint16 | uint32 | uint64 | bool
    ## The types that the elements of a tensor can have; `int` is int64.

  TorchError* = object of CatchableError  ## What libtorch or the C API said of a failure.
    status*: int

  CModel = object
  CValue = object
  TensorInfo* {.bycopy.} = object  ## Of a tensor; the pointers are valid until its value is freed.
    data*: pointer  ## of the first element; nil where the device is not the CPU
    shapeData, strideData: ptr UncheckedArray[int64]
    elements*: int64
    dimensions*, dtype*, elementSize*, isContiguous*, isCpu*: int32
  CArgument {.bycopy.} = object
    name, kind, defaultText: cstring
    hasDefault, keywordOnly: int32

  ModelObj = object
    handle: ptr CModel
  Model* = ref ModelObj  ## A TorchScript model or an AOTInductor package.
  ValueObj = object
    handle: ptr CValue
  Value* = ref ValueObj  ## Anything that a model takes or returns.

const mostDimensions = 64

{.push importc, cdecl.}
proc tm_last_error(): cstring
proc tm_model_load(path, device: cstring, model: ptr ptr CModel): int32
proc tm_model_free(model: ptr CModel): int32
proc tm_model_argument_count(model: ptr CModel, name: cstring, count: ptr csize_t): int32
proc tm_model_argument(model: ptr CModel, name: cstring, index: csize_t, argument: ptr CArgument): int32
proc tm_model_example_shape(model: ptr CModel, name: cstring, index: csize_t, shape: ptr int64, dimensions: ptr int32): int32
proc tm_model_forward(model: ptr CModel, arguments: ptr ptr CValue, count: csize_t, result: ptr ptr CValue): int32
proc tm_value_none(value: ptr ptr CValue): int32
proc tm_value_bool(boolean: int32, value: ptr ptr CValue): int32
proc tm_value_int(number: int64, value: ptr ptr CValue): int32
proc tm_value_float(number: cdouble, value: ptr ptr CValue): int32
proc tm_value_string(text: cstring, size: csize_t, value: ptr ptr CValue): int32
proc tm_value_list(items: ptr ptr CValue, count: csize_t, value: ptr ptr CValue): int32
proc tm_value_tuple(items: ptr ptr CValue, count: csize_t, value: ptr ptr CValue): int32
proc tm_value_dict(value: ptr ptr CValue): int32
proc tm_value_dict_set(dict, key, item: ptr CValue): int32
proc tm_value_free(value: ptr CValue): int32
proc tm_value_kind(value: ptr CValue, kind: ptr int32): int32
proc tm_value_get_bool(value: ptr CValue, boolean: ptr int32): int32
proc tm_value_get_int(value: ptr CValue, number: ptr int64): int32
proc tm_value_get_float(value: ptr CValue, number: ptr cdouble): int32
proc tm_value_get_complex(value: ptr CValue, real, imaginary: ptr cdouble): int32
proc tm_value_get_string(value: ptr CValue, text: ptr cstring, size: ptr csize_t): int32
proc tm_value_length(value: ptr CValue, length: ptr csize_t): int32
proc tm_value_item(value: ptr CValue, index: csize_t, item: ptr ptr CValue): int32
proc tm_value_key(dict: ptr CValue, index: csize_t, key: ptr ptr CValue): int32
proc tm_tensor_copy(data: pointer, dtype: int32, shape: ptr int64, dimensions: int32, strides: ptr int64,
                    value: ptr ptr CValue): int32
proc tm_tensor_borrow(data: pointer, dtype: int32, shape: ptr int64, dimensions: int32, strides: ptr int64,
                      release: proc (context: pointer) {.cdecl.}, context: pointer, value: ptr ptr CValue): int32
proc tm_tensor_get_info(value: ptr CValue, info: ptr TensorInfo): int32
proc tm_tensor_to_dtype(value: ptr CValue, dtype: int32, result: ptr ptr CValue): int32
proc tm_tensor_read(value: ptr CValue, buffer: pointer, size: csize_t): int32
{.pop.}

proc check(status: int32) =
  if status != 0:
    let error = newException(TorchError, $tm_last_error())
    error.status = status
    raise error

proc free(value: Value) =
  discard tm_value_free(value.handle)
  value.handle = nil

proc freeModel(model: Model) =
  discard tm_model_free(model.handle)
  model.handle = nil

proc close*(value: Value) =
  ## Free it now rather than when Nim collects it.
  free(value)

proc close*(model: Model) =
  ## Free it now rather than when Nim collects it.
  freeModel(model)

{.push warning[Deprecated]: off.}  # Nim 2.2 has another form of `new`, which older ones lack.
proc owned(handle: ptr CValue): Value =
  new(result, free)
  result.handle = handle

proc owned(handle: ptr CModel): Model =
  new(result, freeModel)
  result.handle = handle
{.pop.}

template made(call: untyped): Value =
  ## The value that a call writes to `produced`.
  var produced {.inject.}: ptr CValue
  check(call)
  owned(produced)

template open(value: Value): ptr CValue =
  if value.isNil or value.handle.isNil: raise newException(ValueError, "the value was closed")
  value.handle

template open(model: Model): ptr CModel =
  if model.isNil or model.handle.isNil: raise newException(ValueError, "the model was closed")
  model.handle

template first[T](items: openArray[T]): ptr T =
  if items.len > 0: unsafeAddr items[0] else: nil

proc handles(values: openArray[Value]): seq[ptr CValue] =
  for value in values: result.add value.open

# --- values ---

proc dtypeOf*(T: typedesc[Element]): int32 =
  ## The number of the C API for a type of elements.
  when T is float32: 6
  elif T is float64: 7
  elif T is bool: 11
  elif T is uint8: 0
  elif T is int8: 1
  elif T is int16: 2
  elif T is uint16: 27
  elif T is uint32: 28
  elif T is uint64: 29
  elif sizeof(T) == 8: 4
  else: 3

proc sizesOf(shape: openArray[int]): seq[int64] =
  for size in shape:
    if size < 0: raise newException(ValueError, "the shape " & $shape & " has a negative size")
    result.add size.int64

proc tensor*[T: Element](data: openArray[T], shape: openArray[int]): Value =
  ## A tensor with a copy of `data`, in row-major order; `[]` is the shape of a single number.
  let sizes = sizesOf(shape)
  var elements = 1
  for size in shape: elements *= size
  if elements != data.len:
    raise newException(ValueError, "the shape " & $shape & " does not have " & $data.len & " elements")
  made tm_tensor_copy(data.first, dtypeOf(T), sizes.first, sizes.len.int32, nil, addr produced)

proc innermost[T](_: typedesc[T]): auto =
  when T is Element: default(T) else: innermost(typeof(default(T)[0]))

proc flatten[T, E](nested: openArray[T], level: int, shape: var seq[int], flat: var seq[E]) =
  if level == shape.len: shape.add nested.len
  elif shape[level] != nested.len: raise newException(ValueError, "the rows have different lengths")
  for item in nested:
    when item is Element: flat.add item
    else: flatten(item, level + 1, shape, flat)

proc levels(T: typedesc): int =
  when T is Element: 0 else: 1 + levels(typeof(default(T)[0]))

proc tensor*[T](nested: openArray[T]): Value =
  ## A tensor of arrays or seqs of numbers, nested to any depth, which have one length a level.
  var shape: seq[int]
  var flat: seq[typeof(innermost(T))]
  flatten(nested, 0, shape, flat)
  while shape.len < 1 + levels(T): shape.add 0  # below an empty level
  tensor(flat, shape)

proc borrow*[T: Element](data: ptr T, shape: openArray[int], strides: openArray[int] = [],
                         release: proc (context: pointer) {.cdecl.} = nil, context: pointer = nil): Value =
  ## A tensor over memory on the CPU, without a copy. It must stay as it is until `release(context)` is called (from any thread), when
  ## the last value that uses it is freed. `strides` counts elements; without them the order is row-major.
  let sizes = sizesOf(shape)
  var steps: seq[int64]
  for step in strides: steps.add step.int64
  if steps.len notin [0, sizes.len]: raise newException(ValueError, "a tensor has as many strides as dimensions")
  made tm_tensor_borrow(data, dtypeOf(T), sizes.first, sizes.len.int32, steps.first, release, context, addr produced)

proc toValue*(value: Value): Value = value
proc toValue*(number: SomeInteger): Value = made tm_value_int(number.int64, addr produced)
proc toValue*(number: SomeFloat): Value = made tm_value_float(number.cdouble, addr produced)
proc toValue*(flag: bool): Value = made tm_value_bool(flag.int32, addr produced)
proc toValue*(words: string): Value = made tm_value_string(words.cstring, words.len.csize_t, addr produced)

proc toValue*(items: openArray[Value]): Value =
  ## A list.
  let pointers = items.handles
  made tm_value_list(pointers.first, pointers.len.csize_t, addr produced)

proc toTuple*(items: varargs[Value, toValue]): Value =
  let pointers = items.handles
  made tm_value_tuple(pointers.first, pointers.len.csize_t, addr produced)

proc toDict*(entries: openArray[(string, Value)]): Value =
  result = made tm_value_dict(addr produced)
  for (name, item) in entries:
    let key = toValue(name)
    check tm_value_dict_set(result.handle, key.handle, item.open)

proc noValue*(): Value =
  ## None.
  made tm_value_none(addr produced)

proc kind*(value: Value): Kind =
  var number: int32
  check tm_value_kind(value.open, addr number)
  Kind(number)

proc toInt*(value: Value): int64 =
  check tm_value_get_int(value.open, addr result)

proc toFloat*(value: Value): float =
  check tm_value_get_float(value.open, addr result)

proc toBool*(value: Value): bool =
  var flag: int32
  check tm_value_get_bool(value.open, addr flag)
  flag != 0

proc toComplex*(value: Value): tuple[re, im: float] =
  check tm_value_get_complex(value.open, addr result.re, addr result.im)

proc toString*(value: Value): string =
  var words: cstring
  var size: csize_t
  check tm_value_get_string(value.open, addr words, addr size)
  result = newString(size.int)
  if size > 0: copyMem(addr result[0], words, size.int)

proc len*(value: Value): int =
  ## How many items a list, tuple or dict has.
  var length: csize_t
  check tm_value_length(value.open, addr length)
  length.int

proc `[]`*(value: Value, index: int): Value =
  ## An item of a list, a tuple or, in its order, a dict.
  if index < 0: raise newException(IndexDefect, "no item " & $index)
  made tm_value_item(value.open, index.csize_t, addr produced)

iterator items*(value: Value): Value =
  for index in 0 ..< value.len: yield value[index]

proc keys*(value: Value): seq[Value] =
  ## The keys of a dict, in the order of its items.
  for index in 0 ..< value.len: result.add(made tm_value_key(value.open, index.csize_t, addr produced))

# --- tensors ---

proc info*(value: Value): TensorInfo =
  ## Where the elements of a tensor are: nothing is copied.
  check tm_tensor_get_info(value.open, addr result)

proc data*[T: Element](value: Value, _: typedesc[T]): ptr UncheckedArray[T] =
  ## The elements of a tensor on the CPU, in place. They are where `strides` says, and valid until the value is freed.
  let found = value.info
  if found.dtype != dtypeOf(T) or found.isCpu == 0:
    raise newException(ValueError, "not a tensor of " & $T & " on the CPU")
  cast[ptr UncheckedArray[T]](found.data)

proc shape*(value: Value): seq[int] =
  let found = value.info
  for dimension in 0 ..< found.dimensions: result.add found.shapeData[dimension].int

proc strides*(value: Value): seq[int] =
  ## In elements.
  let found = value.info
  for dimension in 0 ..< found.dimensions: result.add found.strideData[dimension].int

proc elements*[T: Element](value: Value, _: typedesc[T]): seq[T] =
  ## The elements of a tensor in row-major order, converted.
  let converted = made tm_tensor_to_dtype(value.open, dtypeOf(T), addr produced)
  result = newSeq[T](converted.info.elements.int)
  if result.len > 0:
    check tm_tensor_read(converted.handle, addr result[0], csize_t(result.len * sizeof(T)))
  converted.close

proc `$`*(value: Value): string =
  ## Its kind, and the shape of a tensor: `tensor [1, 3]`.
  result = $value.kind
  if value.kind == tensorValue: result.add " [" & value.shape.join(", ") & "]"

# --- models ---

proc loadModel*(path: string, device = "cpu"): Model =
  ## Load a model onto a device: "cpu", "cuda:0", …
  var handle: ptr CModel
  check tm_model_load(path.cstring, device.cstring, addr handle)
  owned(handle)

proc exampleShapes*(model: Model): seq[seq[int]] =
  ## A shape for each argument of forward that has no default: a guess from the weights.
  var count: csize_t
  check tm_model_argument_count(model.open, "forward", addr count)
  for index in 0 ..< count.int:
    var argument: CArgument
    check tm_model_argument(model.handle, "forward", index.csize_t, addr argument)
    if argument.hasDefault != 0: break
    var sizes: array[mostDimensions, int64]
    var dimensions: int32
    check tm_model_example_shape(model.handle, "forward", index.csize_t, addr sizes[0], addr dimensions)
    var shape: seq[int]
    for size in sizes[0 ..< dimensions]: shape.add size.int
    result.add shape

proc forward*(model: Model, arguments: varargs[Value, toValue]): Value =
  ## Call the model; missing arguments take their defaults.
  let pointers = arguments.handles
  made tm_model_forward(model.open, pointers.first, pointers.len.csize_t, addr produced)
