## Runs a TorchScript model on ones and prints what comes out:
##
##   ./main model.pt 1 3 224 224     # the dimensions of its input
##   ./main model.pt                 # only loads it

import std/[os, sequtils, strutils]
import torchmodel

proc show[T](output: Tensor, _: typedesc[T]) =
  let values = output.toSeq(T)  # a plain Nim seq
  let dots = if values.len > 8: " …" else: ""
  echo output, ": ", values[0 ..< min(8, values.len)].join(" "), dots

proc run(path: string, shape: seq[int]) =
  let model = loadModel(path)
  echo "loaded ", path
  if shape.len == 0: return

  let ones = newSeqWith(shape.foldl(a * b, 1), 1'f32)
  for output in model.forward(tensor(ones, shape)):
    case output.dtype
    of dtFloat32: output.show float32
    of dtFloat64: output.show float64
    of dtInt64: output.show int64
    else: echo output

when isMainModule:
  if paramCount() == 0:
    quit "usage: main MODEL.pt [DIMENSION…]", 2
  try:
    run(paramStr(1), commandLineParams()[1 .. ^1].map(parseInt))
  except TorchError, ValueError:
    quit "main: " & getCurrentExceptionMsg(), 1
