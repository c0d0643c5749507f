"use strict";

const assert = require("node:assert/strict");
const { join } = require("node:path");
const test = require("node:test");

const { Model, Value, TorchError } = require("../torchmodel.js");

const model = new Model(join(__dirname, "..", "model.pt"));
const ones = () => Value.tensor([[1, 1, 1, 1]]);

test("forward returns numbers", async () => {
  const output = await model.forward(Value.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]));
  assert.equal(output.kind, "tensor");
  assert.deepEqual(output.shape, [2, 2]);
  assert.deepEqual(output.elements(Float32Array).slice(0, 2), new Float32Array([2.5, -0.75]));
  assert.deepEqual([...model.forwardSync(ones()).elements()], [2.5, -0.75]);
});

test("calls run at once, also where their values are closed meanwhile", async () => {
  const outputs = await Promise.all(
    Array.from({ length: 8 }, () => {
      const input = ones();
      const output = model.forward(input);
      input.close();
      return output;
    }),
  );
  for (const output of outputs) assert.deepEqual([...output.elements()], [2.5, -0.75]);
});

test("a wrong shape is an error", async () => {
  const wrong = { name: "TorchError", message: /shapes cannot be multiplied/ };
  await assert.rejects(model.forward(Value.tensor([[1, 1, 1]])), wrong);
  assert.throws(() => model.forwardSync(Value.tensor([[1, 1, 1]])), wrong);
  assert.throws(() => Value.tensor([1, 2, 3], [2, 2]), RangeError);
  assert.throws(() => Value.tensor([[1, 2], [3]]), /different lengths/);
  assert.throws(() => Value.tensor([1, [2]]), TypeError);
  assert.throws(() => Value.tensor([[1], ["a"]]), TypeError);
});

test("a missing model is an error", () => {
  assert.throws(() => new Model("missing.pt"), (error) => error instanceof TorchError && /missing\.pt/.test(error.message));
});

test("values round-trip", () => {
  for (const plain of [null, true, 7n, -(2n ** 63n), 2.5, "text", "a\0b ü", [1.5, 2.5], new Map([["a", [1n]]])]) {
    assert.deepEqual(Value.of(plain).plain(), plain);
  }
  assert.equal(Value.tuple([1, "two"]).kind, "tuple");
  assert.equal(Value.int(7).plain(), 7n);
  assert.throws(() => Value.int(2n ** 63n), TorchError);
  for (const Type of [Uint8Array, Int32Array, Float64Array]) {
    assert.deepEqual(Value.tensor([[[1, 2]], [[3, 4]]], undefined, Type).elements(Type), Type.of(1, 2, 3, 4));
  }
  assert.deepEqual(Value.tensor([1n, 2n]).elements(BigInt64Array), BigInt64Array.of(1n, 2n));
  assert.deepEqual(Value.tensor(5).shape, []);
});

test("what was closed, or is no value, is an error", () => {
  const closed = ones();
  closed.close();
  closed.close();
  assert.throws(() => closed.shape, /closed/);
  assert.throws(() => model.forwardSync(closed), /closed/);
  assert.throws(() => model.forwardSync(Symbol("x")), TypeError);
  assert.throws(() => new Value({}).kind, TorchError);
});
