## TorchScript models, and values of every kind in and out of them. The C++ side is torchvalues.cpp.

when not defined(cpp):
  {.error: "torchvalues needs Nim's C++ backend: build with `nim cpp`, not `nim c`.".}

{.compile: "torchvalues.cpp".}

type
  Kind* = enum  ## In the order of torchvalues.cpp.
    vkNone, vkBool, vkInt, vkFloat, vkComplex, vkText, vkTensor, vkList, vkTuple, vkDict

  Carrier* = enum  ## How the elements of a tensor are passed: by the widest numbers of their sort.
    carryNothing, carryInt, carryFloat, carryComplex  # in the order of torchvalues.cpp

  TorchError* = object of CatchableError  ## An error of libtorch, or arguments that do not fit the model.

  CValue* = object
  Value* = ptr CValue  ## A value on the C++ side; freed with `free`, unless it was passed to `container`.
  CModel = object
  Model* = ref object
    handle: ptr CModel

{.push importc, cdecl.}
proc torch_free_text(message: cstring)
proc torch_none(): Value
proc torch_bool(value: cint): Value
proc torch_int(value: int64): Value
proc torch_float(value: float64): Value
proc torch_complex(re, im: float64): Value
proc torch_text(start: cstring, size: int64): Value
proc torch_carrier(name: cstring): cint
proc torch_tensor(name: cstring, elements: pointer, rank: int64, sizes: ptr int64, made: ptr Value): cstring
proc torch_container(kind: cint, items: ptr Value, count: int64): Value
proc torch_free(value: Value)
proc torch_kind(value: Value): cint
proc torch_count(value: Value): int64
proc torch_item(value: Value, index: int64): Value
proc torch_get_bool(value: Value): cint
proc torch_get_int(value: Value): int64
proc torch_get_float(value: Value): float64
proc torch_get_complex(value: Value, parts: ptr float64)
proc torch_get_text(value: Value, size: ptr int64): cstring
proc torch_dtype(value: Value): cstring
proc torch_rank(value: Value): int64
proc torch_size(value: Value, dimension: int64): int64
proc torch_elements(value: Value, memory: pointer): cstring
proc torch_load(path: cstring, model: ptr ptr CModel): cstring
proc torch_free_model(model: ptr CModel)
proc torch_forward(model: ptr CModel, arguments: ptr Value, count: int64, made: ptr Value): cstring
{.pop.}

proc raiseTorchError(text: cstring) {.noinline.} =
  let message = $text
  torch_free_text(text)
  raise newException(TorchError, message)

template check(call: untyped) =
  let failure: cstring = call
  if failure != nil: raiseTorchError(failure)

# --- into values ---

proc noneValue*(): Value = torch_none()
proc value*(given: bool): Value = torch_bool(given.cint)
proc value*(given: int64): Value = torch_int(given)
proc value*(given: float64): Value = torch_float(given)
proc value*(re, im: float64): Value = torch_complex(re, im)
proc value*(given: string): Value = torch_text(given.cstring, given.len)

proc carrier*(dtype: string): Carrier =
  ## Of a dtype by torch's name; `carryNothing` for an unknown one.
  Carrier(torch_carrier(dtype.cstring))

proc tensor*[T: int64 | float64](dtype: string, elements: var seq[T], shape: openArray[int]): Value =
  ## Of as many elements as the shape says, two for a complex one.
  var sizes: seq[int64]
  for size in shape: sizes.add size
  var nothing: T
  let start: pointer = if elements.len > 0: addr elements[0] else: addr nothing
  check torch_tensor(dtype.cstring, start, sizes.len, if sizes.len > 0: addr sizes[0] else: nil, addr result)

proc container*(kind: Kind, items: var seq[Value]): Value =
  ## A list, tuple or dict (keys and values in turn); it takes its items over.
  result = torch_container(kind.ord.cint, if items.len > 0: addr items[0] else: nil, items.len)
  items.setLen 0

proc free*(value: Value) = torch_free(value)

proc free*(values: var seq[Value]) =
  for each in values: torch_free(each)
  values.setLen 0

# --- and out of them ---

proc kind*(value: Value): Kind = Kind(torch_kind(value))
proc len*(value: Value): int = torch_count(value).int
proc `[]`*(value: Value, index: int): Value = torch_item(value, index)
proc getBool*(value: Value): bool = torch_get_bool(value) != 0
proc getInt*(value: Value): int64 = torch_get_int(value)
proc getFloat*(value: Value): float64 = torch_get_float(value)

proc getComplex*(value: Value): array[2, float64] = torch_get_complex(value, addr result[0])

proc getText*(value: Value): string =
  var size: int64
  let start = torch_get_text(value, addr size)
  result = newString(size)
  if size > 0: copyMem(addr result[0], start, size)

proc dtype*(value: Value): string = $torch_dtype(value)

proc shape*(value: Value): seq[int] =
  for dimension in 0 ..< torch_rank(value): result.add torch_size(value, dimension).int

proc elements*[T: int64 | float64](value: Value, _: typedesc[T]): seq[T] =
  ## Of a tensor, in row-major order; T is its carrier's, two numbers for a complex one.
  var count = if value.dtype.carrier == carryComplex: 2 else: 1
  for size in value.shape: count *= size
  result = newSeq[T](count)
  var nothing: array[2, T]
  check torch_elements(value, if count > 0: addr result[0] else: addr nothing[0])

# --- models ---

proc loadModel*(path: string): Model =
  ## A TorchScript model in evaluation mode, on the CPU.
  var handle: ptr CModel
  check torch_load(path.cstring, addr handle)
  Model(handle: handle)

proc close*(model: Model) =
  torch_free_model(model.handle)
  model.handle = nil

proc forward*(model: Model, arguments: var seq[Value]): Value =
  ## Without gradients. The arguments stay the caller's, the result is the caller's to free.
  check torch_forward(model.handle, if arguments.len > 0: addr arguments[0] else: nil, arguments.len, addr result)
