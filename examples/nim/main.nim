## Runs a TorchScript model on a tensor of ones and prints the result:
##
##   ./main model.pt 1 3 224 224     # the dimensions of its input

import std/[os, sequtils, strutils]
import torchmodel

proc likelyShape(model: Model): seq[int] =
  ## An input shape that works for many models, from their first weight: a convolution's weight is
  ## [out, in, height, width], a linear layer's [out, in].
  for weight in model.parameterShapes:
    if weight.len == 4: return @[1, weight[1], 224, 224]
    if weight.len == 2: return @[1, weight[1]]
  @[1, 4]

proc text[T](number: T): string =
  ## With the digits of a float32; Nim 1.6's `$` prints those of a float64.
  when T is float32:
    result = formatFloat(number, ffDefault, 6)
    result.trimZeros()
  else:
    result = $number

proc sentence(message: string): string =
  ## The line with the error. TorchScript's interpreter prints it after a traceback of the model's code.
  let lines = message.strip.splitLines
  if "TorchScript" in lines[0]: lines[^1] else: lines[0]

proc show[T](output: Tensor, _: typedesc[T]) =
  let values = output.toSeq(T)  # a plain Nim seq
  let dots = if values.len > 8: " …" else: ""
  echo output, ": ", values[0 ..< min(8, values.len)].map(text[T]).join(" "), dots

proc run(path: string, dimensions: seq[int]) =
  let model = loadModel(path)
  let shape = if dimensions.len > 0: dimensions else: model.likelyShape
  let ones = newSeqWith(shape.foldl(a * b, 1), 1'f32)
  var outputs: seq[Tensor]
  try:
    outputs = model.forward(tensor(ones, shape))
  except TorchError as error:
    let advice = if dimensions.len == 0: "\nGive the dimensions of its input after the model." else: ""
    quit paramStr(0) & ": " & error.msg.sentence & advice, 1
  for output in outputs:
    case output.dtype
    of dtFloat32: output.show float32
    of dtFloat64: output.show float64
    of dtInt64: output.show int64
    else: echo output

when isMainModule:
  if paramCount() == 0:
    quit "usage: " & paramStr(0) & " MODEL.pt [DIMENSION…]", 2
  try:
    run(paramStr(1), commandLineParams()[1 .. ^1].map(parseInt))
  except TorchError, ValueError:
    quit paramStr(0) & ": " & getCurrentExceptionMsg().sentence, 1
