## What must hold of torchmodel.nim, on the models in the directory `models` next to the program.

import std/[os, strutils, unittest]
import torchmodel

proc model(name: string): Model = loadModel(getAppDir() / "models" / name & ".pt")

template failure(kind: typedesc, action: untyped): string =
  var message = ""
  try:
    discard action
    checkpoint "nothing was raised"
    fail()
  except kind as error:
    message = error.msg
  message

proc comesBack[T](numbers: seq[T]) =
  let output = model("Same").forward(tensor(numbers, [2, 3]))[0]
  let (dtype, back) = (dtypeOf(T), output.toSeq(T))  # within `check`, a type is no type
  check output.dtype == dtype
  check output.shape == @[2, 3]
  check output.len == 6
  check back == numbers

suite "numbers go in and come back":
  test "of every type":
    comesBack @[1'f32, -2.5, 0, 4e30, 1e-40, 6]
    comesBack @[1'f64, -2.5, 0, 4e300, 1e-310, 6]
    comesBack @[1'i64, -2, high(int64), low(int64), 0, 6]
    comesBack @[1, -2, 3, high(int), low(int), 6]
    comesBack @[1'i32, -2, high(int32), low(int32), 0, 6]
    comesBack @[1'u8, 2, 255, 128, 0, 6]
    comesBack @[true, false, true, true, false, false]
    comesBack @[1.5, 2.5, 3.5, 4.5, 5.5, 6.5]

  test "and a model computes on them":
    check model("Twice").forward(tensor(@[1'f32, 2.5]))[0].toSeq(float32) == @[2'f32, 5]
    check model("Twice").forward(tensor(@[1.0, 2.5]))[0].toSeq(float64) == @[2.0, 5.0]
    check model("Twice").forward(tensor(@[1, 2]))[0].toSeq(int64) == @[2'i64, 4]
    let rows = @[@[1'f32, 0, 0, 0], @[0'f32, 1, 1, 0], @[0'f32, 0, 0, 0]]
    check model("Linear").forward(tensor(rows))[0].toSeq2(float32) ==
      @[@[0.5'f32, 3.5], @[3.5'f32, 10.5], @[0.5'f32, -0.5]]

  test "nested seqs of two and three levels":
    let rows = @[@[1'i64, 2, 3], @[4'i64, 5, 6]]
    check tensor(rows).shape == @[2, 3]
    check model("Same").forward(tensor(rows))[0].toSeq2(int64) == rows
    let blocks = @[@[@[1.0, 2.0], @[3.0, 4.0]], @[@[5.0, 6.0], @[7.0, 8.0]], @[@[9.0, 10.0], @[11.0, 12.0]]]
    check tensor(blocks).shape == @[3, 2, 2]
    check model("Same").forward(tensor(blocks))[0].toSeq3(float64) == blocks

  test "arrays, one number, none":
    check tensor([1'f32, 2]).shape == @[2]
    check model("Twice").forward(tensor([3.5], []))[0].item(float64) == 7.0
    check model("Twice").forward(tensor([3], []))[0].shape.len == 0
    let empty = model("Twice").forward(tensor(newSeq[float32](), [0, 4]))[0]
    check empty.shape == @[0, 4]
    check empty.toSeq(float32).len == 0
    check tensor(newSeq[seq[float32]]()).shape == @[0, 0]
    check tensor(@[newSeq[float32](), newSeq[float32]()]).toSeq2(float32) == @[newSeq[float32](), newSeq[float32]()]

  test "with any strides, and lazy ones":
    check model("Transposed").forward(tensor(@[@[1'f32, 2, 3], @[4'f32, 5, 6]]))[0].toSeq2(float32) ==
      @[@[1'f32, 4], @[2'f32, 5], @[3'f32, 6]]
    check model("Negated").forward(tensor(@[1'f32]))[0].toSeq(float32) == @[-1'f32]

  test "a tensor tells what it is":
    check $tensor(@[@[1'f32, 2, 3]]) == "float32 [1, 3]"
    check $tensor([true], []) == "bool []"

suite "a model's arguments and results":
  test "two inputs, none":
    check model("Add").forward(tensor(@[1, 2]), tensor(@[10, 20]))[0].toSeq(int64) == @[11'i64, 22]
    check model("Add").forward(@[tensor(@[1, 2]), tensor(@[10, 20])])[0].toSeq(int64) == @[11'i64, 22]
    check model("Nothing").forward()[0].toSeq(int64) == @[7'i64]

  test "tuples, lists, dicts and plain numbers come back in order, None not at all":
    let outputs = model("Everything").forward(tensor(@[1'f32]))
    check outputs.len == 8
    for index in 0 .. 4: check outputs[index].toSeq(float32) == @[float32(index + 1)]
    check outputs[5].item(int64) == 5
    check outputs[6].item(float64) == 6.5
    check outputs[7].item(bool)

  test "the shapes of the weights":
    check model("Linear").parameterShapes == @[@[2, 4], @[2]]
    check model("HalfWeights").parameterShapes == @[@[3, 2]]
    check model("Same").parameterShapes.len == 0

  test "models run in evaluation mode":
    check model("Dropout").forward(tensor(@[1'f32, 1, 1, 1, 1, 1, 1, 1]))[0].toSeq(float32) ==
      @[1'f32, 1, 1, 1, 1, 1, 1, 1]

  test "a model cannot reach Nim's memory":
    let input = tensor(@[1'f32, 2])
    check model("InPlace").forward(input)[0].toSeq(float32) == @[9'f32, 9]
    check input.toSeq(float32) == @[1'f32, 2]
    let keeps = model("Keeps")
    discard keeps.forward(tensor(@[5'f32]))
    check keeps.forward(tensor(@[6'f32]))[0].toSeq(float32) == @[5'f32]

suite "what goes wrong is an exception":
  test "numbers that do not fill the shape, ragged rows and blocks":
    check failure(ValueError, tensor(@[1, 2, 3], [2, 2])) == "3 numbers do not fill the shape [2, 2]"
    check "negative" in failure(ValueError, tensor(@[1, 2], [-1, -2]))
    check failure(ValueError, tensor(@[@[1, 2], @[3]])) == "row 1 has 1 numbers, row 0 has 2"
    check "block 1" in failure(ValueError, tensor(@[@[@[1, 2]], @[@[3]]]))
    check "row 1" in failure(ValueError, tensor(@[@[@[1, 2], @[3]]]))

  test "reading another type or shape":
    check failure(ValueError, tensor(@[1'f32]).toSeq(float64)) == "a tensor of float32 cannot be read as float64"
    check "dimensions" in failure(ValueError, tensor(@[1'f32]).toSeq2(float32))
    check "exactly one" in failure(ValueError, tensor(@[1'f32, 2]).item(float32))

  test "files that are no models":
    let missing = failure(TorchError, loadModel("there is none.pt"))
    check "there is none.pt" in missing
    check "frame #" notin missing
    check "Exception raised from" notin missing
    check failure(TorchError, model("Broken")).len > 0
    check failure(TorchError, loadModel(getAppDir())).len > 0

  test "a device that is none":
    check "nonsense" in failure(TorchError, loadModel(getAppDir() / "models" / "Same.pt", "nonsense"))

  test "inputs that do not fit, and what a model raises":
    let wrongType = failure(TorchError, model("Linear").forward(tensor(@[1.0, 2, 3, 4])))
    check "dtype" in wrongType
    check "frame #" notin wrongType
    check "mat1 and mat2" in failure(TorchError, model("Linear").forward(tensor(@[@[1'f32, 2, 3]])))
    check "argument" in failure(TorchError, model("Linear").forward())
    check "the model says no" in failure(TorchError, model("Raises").forward(tensor(@[1'f32])))

  test "results that are no tensors of these types":
    check "String" in failure(TorchError, model("Text").forward(tensor(@[1'f32])))
    check "Half" in failure(TorchError, model("Half").forward(tensor(@[1'f32])))

  test "a closed model":
    let closed = model("Same")
    closed.close()
    closed.close()
    check "closed" in failure(ValueError, closed.forward(tensor(@[1'f32])))
    check "closed" in failure(ValueError, closed.parameterShapes)

suite "memory":
  proc residentKib(): int =
    for line in lines("/proc/self/status"):
      if line.startsWith("VmRSS"): return line.splitWhitespace[1].parseInt

  proc loadAndRun(name: string) =
    discard model(name).forward(tensor(newSeq[float32](1024), [1, 1024]))

  proc round(heavy: Model) =
    for turn in 0 ..< 50: loadAndRun "Heavy"
    for turn in 0 ..< 25: discard heavy.forward(tensor(newSeq[float32](1024 * 1024), [1024, 1024]))
    for turn in 0 ..< 100: discard failure(TorchError, model("Same").forward())

  test "is given back: of 200 MB of models and 200 MB of tensors, next to nothing stays":
    let heavy = model("Heavy")
    heavy.round()
    let before = residentKib()
    heavy.round()
    check residentKib() - before < 60_000
