## What must hold of the model: the bundled one multiplies a row of four numbers by a matrix. For your own, write down what
## it must return.

import std/[os, unittest]
import ../torchmodel

const path = currentSourcePath().parentDir.parentDir / "model.pt"

suite "model.pt":
  let model = loadModel(path)

  test "it returns two numbers for four":
    let output = model.forward(tensor(@[1'f32, 1, 1, 1], [1, 4]))[0]
    check output.shape == @[1, 2]
    check output.toSeq(float32) == @[2.5'f32, -0.75]

  test "and two rows for two":
    check model.forward(tensor(@[@[1'f32, 1, 1, 1], @[1'f32, 1, 1, 1]]))[0].toSeq2(float32) ==
      @[@[2.5'f32, -0.75], @[2.5'f32, -0.75]]

  test "an input of another shape is an error with libtorch's message":
    expect TorchError:
      discard model.forward(tensor(@[1'f32, 2], [1, 2]))

  test "and so is a file that is no model":
    expect TorchError:
      discard loadModel(currentSourcePath())
