import std/[os, strutils, unittest]
import ../torchmodel

const path = currentSourcePath().parentDir.parentDir / "model.pt"

var released = 0

proc count(context: pointer) {.cdecl.} = inc cast[ptr int](context)[]

template fails(error: typedesc, words: string, body: untyped) =
  try:
    body
    check false
  except error as failure:
    check words in failure.msg

suite "model.pt":
  let model = loadModel(path)

  test "it returns numbers":
    let output = model.forward(tensor(@[@[1'f32, 1, 1, 1], @[0'f32, 0, 0, 0]]))
    check output.kind == tensorValue
    check output.shape == @[2, 2]
    check output.elements(float32)[0 .. 1] == @[2.5'f32, -0.75]
    check output.elements(int64)[0] == 2

  test "what is wrong is an error with libtorch's message":
    fails(TorchError, "shapes cannot be multiplied"): discard model.forward(tensor(@[@[1'f32, 2]]))
    fails(TorchError, "missing.pt"): discard loadModel("missing.pt")
    fails(ValueError, "different lengths"): discard tensor(@[@[1'f32], @[1'f32, 2]])
    fails(ValueError, "does not have 3 elements"): discard tensor([1, 2, 3], [2, 2])

  test "memory goes in and out without a copy":
    var numbers = [1'f32, 1, 1, 1]
    let input = borrow(addr numbers[0], [1, 4], release = count, context = addr released)
    check input.data(float32) == cast[ptr UncheckedArray[float32]](addr numbers[0])
    check model.forward(input).elements(float32) == @[2.5'f32, -0.75]
    check borrow(addr numbers[0], [2, 2], strides = [1, 2]).strides == @[1, 2]
    check released == 0
    input.close
    check released == 1
    fails(ValueError, "closed"): discard input.shape

suite "values":
  test "they round-trip":
    check toValue(7).toInt == 7
    check toValue(2.5).toFloat == 2.5
    check toValue(true).toBool
    check toValue("a\0b ü").toString == "a\0b ü"
    check noValue().kind == none
    let items = toValue([toValue(1), toTuple(2.5, "x")])
    check items.kind == list
    check items[1].kind == tuples
    check items[1][1].toString == "x"
    let table = toDict({"a": toValue(1)})
    check table.keys[0].toString == "a"
    check table[0].toInt == 1
    fails(TorchError, ""): discard items[2]

  test "nested arrays and seqs are tensors":
    let cube = tensor([[[1, 2]], [[3, 4]]])
    check cube.shape == @[2, 1, 2]
    check cube.elements(float64) == @[1.0, 2, 3, 4]
    check tensor([1'u8, 2]).elements(uint8) == @[1'u8, 2]
    check tensor(newSeq[seq[float32]]()).shape == @[0, 0]
    check tensor([5.0], []).shape.len == 0
