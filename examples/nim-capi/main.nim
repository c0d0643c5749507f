## Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE…]
## The sizes are those of each input; without them they follow from the model.

import std/[os, sequtils, strutils]
import torchmodel

proc plain(number: float32): string =
  result = formatFloat(number, ffDefault, 9)
  result.trimZeros()

proc show(value: Value) =
  case value.kind
  of tensorValue: echo value.elements(float32).map(plain).join(" ")
  of list, tuples, dict:
    for item in value: show(item)
  of text: echo value.toString
  of integer: echo value.toInt
  of floating: echo value.toFloat
  of boolean: echo value.toBool
  else: echo value

proc run(path: string, sizes: seq[int], count: int) =
  let model = loadModel(path)
  let shapes = model.exampleShapes.mapIt(if sizes.len > 0: sizes else: it)
  for number in 1 .. count:
    let inputs = shapes.mapIt(tensor(newSeqWith(it.foldl(a * b, 1), 1'f32), it))
    let output = model.forward(inputs)
    if number == count: show(output)
    for value in inputs & output: value.close

proc wholeNumber(argument: string): int =
  if argument.len notin 1 .. 6 or not argument.allCharsInSet(Digits):
    raise newException(ValueError, "not a whole number: " & argument)
  parseInt(argument)

proc main() =
  var arguments = commandLineParams()
  var count = 1
  var sizes: seq[int]
  try:
    if arguments.len > 1 and arguments[0] == "--repeat":
      count = wholeNumber(arguments[1])
      arguments = arguments[2 .. ^1]
    if arguments.len == 0: raise newException(ValueError, "no model")
    sizes = arguments[1 .. ^1].map(wholeNumber)
  except ValueError as error:
    stderr.writeLine error.msg
    quit "usage: " & getAppFilename().lastPathPart & " [--repeat N] MODEL [SIZE…]", 2
  try:
    run(arguments[0], sizes, count)
  except TorchError, ValueError:
    quit getAppFilename().lastPathPart & ": " & getCurrentExceptionMsg(), 1

main()
