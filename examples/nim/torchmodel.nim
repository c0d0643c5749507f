## TorchScript models for Nim: load a model, pass it Nim seqs, get Nim seqs back.
##
## .. code-block:: nim
##   let model = loadModel("model.pt")
##   let outputs = model.forward(tensor(@[1'f32, 2, 3, 4], [1, 4]))
##   echo outputs[0].shape, " ", outputs[0].toSeq(float32)
##
## A `Tensor` is a plain Nim value that owns its numbers; a `Model` is a handle that Nim's memory management frees.
## Errors in libtorch raise a `TorchError`, wrong arguments a `ValueError`. Build with `nim cpp`; the C++ side is
## torchmodel.cpp next to this file.

when not defined(cpp):
  {.error: "torchmodel needs Nim's C++ backend: build with `nim cpp`, not `nim c`.".}

import std/strutils

{.compile: "torchmodel.cpp".}

type
  Dtype* = enum  ## The type of a tensor's elements, in the order of torchmodel.cpp.
    dtFloat32 = "float32", dtFloat64 = "float64", dtInt64 = "int64",
    dtInt32 = "int32", dtUint8 = "uint8", dtBool = "bool"

  Element* = float32 | float64 | int64 | int | int32 | uint8 | bool
    ## The corresponding Nim types; `int` is int64.

  Tensor* = object  ## Numbers in row-major order, with a shape.
    dtype: Dtype
    shape: seq[int]
    bytes: seq[byte]

  TorchError* = object of CatchableError  ## An error of libtorch, with its message but without the C++ backtrace.

  CModel = object
  COutputs = object
  CArray {.bycopy.} = object
    dtype: cint
    rank: int64
    shape: ptr int64
    data: pointer

  ModelObj = object
    handle: ptr CModel
  Model* = ref ModelObj  ## A loaded TorchScript model.

{.push importc, cdecl.}
proc torchmodel_load(path, device: cstring, model: ptr ptr CModel): cstring
proc torchmodel_forward(model: ptr CModel, inputs: ptr CArray, count: int64, outputs: ptr ptr COutputs): cstring
proc torchmodel_parameters(model: ptr CModel, outputs: ptr ptr COutputs): cstring
proc torchmodel_count(outputs: ptr COutputs): int64
proc torchmodel_describe(outputs: ptr COutputs, index: int64): CArray
proc torchmodel_read(outputs: ptr COutputs, index: int64, memory: pointer): cstring
proc torchmodel_free_text(text: cstring)
proc torchmodel_free_outputs(outputs: ptr COutputs)
proc torchmodel_free_model(model: ptr CModel)
{.pop.}

# --- tensors ---

proc dtypeOf*(T: typedesc[Element]): Dtype =
  ## The dtype for Nim's `T`.
  when T is float32: dtFloat32
  elif T is float64: dtFloat64
  elif T is bool: dtBool
  elif T is uint8: dtUint8
  elif T is int32: dtInt32
  elif sizeof(T) == 8: dtInt64
  else: dtInt32  # `int` on a 32-bit machine

proc dtype*(tensor: Tensor): Dtype = tensor.dtype
proc shape*(tensor: Tensor): seq[int] = tensor.shape

proc volume(shape: openArray[int]): int =
  result = 1
  for size in shape: result *= size

proc len*(tensor: Tensor): int =
  ## The number of elements.
  volume(tensor.shape)

proc `$`*(tensor: Tensor): string =
  ## Its dtype and shape: `float32 [1, 3]`.
  $tensor.dtype & " [" & tensor.shape.join(", ") & "]"

proc tensor*[T: Element](data: openArray[T], shape: openArray[int]): Tensor =
  ## A tensor of `data` in row-major order; `[]` is the shape of a single number.
  for size in shape:
    if size < 0: raise newException(ValueError, "the shape " & $shape & " has a negative size")
  if data.len != volume(shape):
    raise newException(ValueError, $data.len & " numbers do not fill the shape " & $shape)
  result = Tensor(dtype: dtypeOf(T), shape: @shape, bytes: newSeq[byte](data.len * sizeof(T)))
  if data.len > 0:
    copyMem(addr result.bytes[0], unsafeAddr data[0], result.bytes.len)

proc tensor*[T: Element](data: openArray[T]): Tensor =
  ## A tensor of one dimension.
  tensor(data, [data.len])

proc tensor*[T: Element](rows: openArray[seq[T]]): Tensor =
  ## A tensor of two dimensions; all rows have the same length.
  let width = if rows.len > 0: rows[0].len else: 0
  var flat = newSeqOfCap[T](rows.len * width)
  for index, row in rows:
    if row.len != width:
      raise newException(ValueError, "row " & $index & " has " & $row.len & " numbers, row 0 has " & $width)
    flat.add row
  tensor(flat, [rows.len, width])

proc tensor*[T: Element](blocks: openArray[seq[seq[T]]]): Tensor =
  ## A tensor of three dimensions; all blocks have the same shape.
  result = Tensor(dtype: dtypeOf(T), shape: @[blocks.len, 0, 0])
  for index, rows in blocks:
    let part = tensor(rows)
    if index == 0:
      result.shape = blocks.len & part.shape
    elif part.shape != result.shape[1 .. ^1]:
      raise newException(ValueError, "block " & $index & " has the shape " & $part.shape &
                                     ", block 0 has " & $result.shape[1 .. ^1])
    result.bytes.add part.bytes

proc toSeq*[T: Element](tensor: Tensor, _: typedesc[T]): seq[T] =
  ## All numbers in row-major order.
  if tensor.dtype != dtypeOf(T):
    raise newException(ValueError, "a tensor of " & $tensor.dtype & " cannot be read as " & $T)
  result = newSeq[T](tensor.len)
  if result.len > 0:
    copyMem(addr result[0], unsafeAddr tensor.bytes[0], tensor.bytes.len)

proc needRank(tensor: Tensor, rank: int) =
  if tensor.shape.len != rank:
    raise newException(ValueError, "the shape " & $tensor.shape & " does not have " & $rank & " dimensions")

proc toSeq2*[T: Element](tensor: Tensor, _: typedesc[T]): seq[seq[T]] =
  ## The rows of a tensor of two dimensions.
  tensor.needRank 2
  let (flat, width) = (tensor.toSeq(T), tensor.shape[1])
  for row in 0 ..< tensor.shape[0]:
    result.add flat[row * width ..< (row + 1) * width]

proc toSeq3*[T: Element](tensor: Tensor, _: typedesc[T]): seq[seq[seq[T]]] =
  ## The blocks of a tensor of three dimensions.
  tensor.needRank 3
  let (flat, height, width) = (tensor.toSeq(T), tensor.shape[1], tensor.shape[2])
  for index in 0 ..< tensor.shape[0]:
    var rows: seq[seq[T]]
    for row in index * height ..< (index + 1) * height:
      rows.add flat[row * width ..< (row + 1) * width]
    result.add rows

proc item*[T: Element](tensor: Tensor, _: typedesc[T]): T =
  ## The number in a tensor that has exactly one.
  if tensor.len != 1:
    raise newException(ValueError, "the shape " & $tensor.shape & " does not have exactly one number")
  tensor.toSeq(T)[0]

# --- models ---

proc raiseTorchError(text: cstring) {.noinline.} =
  let message = $text
  torchmodel_free_text(text)
  raise newException(TorchError, message)

template check(call: untyped) =
  let failure: cstring = call
  if failure != nil: raiseTorchError(failure)

proc close*(model: Model) =
  ## Free the model's memory now rather than when Nim collects the handle, which looks like a small object to it.
  torchmodel_free_model(model.handle)
  model.handle = nil

proc loadModel*(path: string, device = "cpu"): Model =
  ## Load a TorchScript model in evaluation mode onto a device: "cpu", "cuda", "cuda:1", …
  var handle: ptr CModel
  check torchmodel_load(path.cstring, device.cstring, addr handle)
  new(result, close)
  result.handle = handle

proc needOpen(model: Model) =
  if model.handle.isNil: raise newException(ValueError, "the model was closed")

proc shapeOf(found: CArray): seq[int] =
  let sizes = cast[ptr UncheckedArray[int64]](found.shape)
  for dimension in 0 ..< found.rank: result.add sizes[dimension].int

proc parameterShapes*(model: Model): seq[seq[int]] =
  ## The shapes of its weights, in the model's own order; the first ones suggest the shape of its input.
  model.needOpen
  var parameters: ptr COutputs
  check torchmodel_parameters(model.handle, addr parameters)
  defer: torchmodel_free_outputs(parameters)
  for index in 0 ..< torchmodel_count(parameters):
    result.add torchmodel_describe(parameters, index).shapeOf

proc forward*(model: Model, inputs: varargs[Tensor]): seq[Tensor] =
  ## Run the model on copies of the inputs, without gradients. Returns its tensors in order, on the CPU: one, or those
  ## of a tuple, list or dict. A plain number becomes a tensor of shape `[]`; None is left out.
  model.needOpen
  var shapes = newSeq[seq[int64]](inputs.len)
  var arrays = newSeq[CArray](inputs.len)
  for i, input in inputs:
    for size in input.shape: shapes[i].add size.int64
    arrays[i] = CArray(dtype: input.dtype.ord.cint, rank: input.shape.len.int64)
    if shapes[i].len > 0: arrays[i].shape = addr shapes[i][0]
    if input.bytes.len > 0: arrays[i].data = unsafeAddr inputs[i].bytes[0]
  var outputs: ptr COutputs
  check torchmodel_forward(model.handle, if arrays.len > 0: addr arrays[0] else: nil, arrays.len.int64, addr outputs)
  defer: torchmodel_free_outputs(outputs)
  const width: array[Dtype, int] = [4, 8, 8, 4, 1, 1]
  for index in 0 ..< torchmodel_count(outputs):
    let found = torchmodel_describe(outputs, index)
    var tensor = Tensor(dtype: Dtype(found.dtype), shape: found.shapeOf)
    tensor.bytes = newSeq[byte](tensor.len * width[tensor.dtype])
    check torchmodel_read(outputs, index, if tensor.bytes.len > 0: addr tensor.bytes[0] else: nil)
    result.add tensor
