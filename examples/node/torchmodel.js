// TorchScript models and AOTInductor packages in Node.js, through the C API in .torchlink/capi.
//
// Failures throw a TorchError. Models and values are freed when they are garbage, or at once by close().
"use strict";

const addon = require("./build/torchmodel.node");

/** What libtorch or the C API said of a failure. */
class TorchError extends Error {
  constructor(message, status) {
    super(message);
    this.name = "TorchError";
    this.status = status;
  }
}

addon.init(TorchError);

const KINDS = ["none", "bool", "int", "float", "complex", "string", "tensor", "list", "tuple", "dict", "other"];
// The typed arrays whose elements a tensor can have, with the dtypes of the C API.
const DTYPES = new Map([
  [Uint8Array, 0],
  [Int8Array, 1],
  [Int16Array, 2],
  [Int32Array, 3],
  [BigInt64Array, 4],
  [Float32Array, 6],
  [Float64Array, 7],
  [Uint16Array, 27],
  [Uint32Array, 28],
  [BigUint64Array, 29],
]);

function dtypeOf(Type) {
  const dtype = DTYPES.get(Type);
  if (dtype === undefined) throw new TypeError(`a tensor has no elements of the type ${Type?.name ?? Type}`);
  return dtype;
}

/** The numbers of nested arrays in one array, and their shape. */
function flatten(nested) {
  const shape = [];
  for (let level = nested; Array.isArray(level); level = level[0]) shape.push(level.length);
  let flat = nested;
  for (const size of shape.slice(1)) {
    if (flat.some((part) => !Array.isArray(part) || part.length !== size)) throw new TypeError("the rows have different lengths");
    flat = flat.flat();
  }
  return [shape.length > 0 ? flat : [nested], shape];
}

/** Anything that a model takes or returns. Made by Value.of, Value.tensor, Value.int or Value.tuple, not by `new`. */
class Value {
  #handle;

  constructor(handle) {
    this.#handle = handle;
  }

  /**
   * A tensor with a copy of the numbers: nested arrays, of one length a level, or a flat (typed) array and a shape.
   * Type is that of the elements, a typed array's; numbers of a plain array become float32 without it.
   */
  static tensor(numbers, shape, Type) {
    let data = numbers;
    if (!ArrayBuffer.isView(numbers)) {
      const [flat, found] = flatten(numbers);
      shape ??= found;
      Type ??= typeof flat[0] === "bigint" ? BigInt64Array : Float32Array;
      const bad = flat.find((number) => typeof number !== "number" && typeof number !== "bigint");
      if (bad !== undefined || flat.includes(undefined)) throw new TypeError(`a tensor takes numbers, not ${Array.isArray(bad) ? "rows of different depths" : typeof bad}`);
      dtypeOf(Type);
      data = Type.from(flat);
    } else if (Type !== undefined && Type !== numbers.constructor) {
      dtypeOf(Type);
      data = Type.from(numbers);
    }
    shape ??= [data.length];
    const dtype = dtypeOf(data.constructor);
    const valid = shape.every((size) => Number.isSafeInteger(size) && size >= 0);
    if (!valid || shape.reduce((product, size) => product * size, 1) !== data.length) {
      throw new RangeError(`the shape [${shape}] does not have ${data.length} elements`);
    }
    return new Value(addon.tensor(data, dtype, shape));
  }

  /** An int: JavaScript's numbers are floats. */
  static int(number) {
    return new Value(addon.integer(BigInt(number)));
  }

  static tuple(items) {
    return new Value(addon.tuple(items.map((item) => Value.of(item).#handle)));
  }

  /**
   * The value of JavaScript's own: null, a boolean, a number (a float), a BigInt (an int), a string, an array (a list),
   * a Map or plain object (a dict), a typed array (a tensor of one dimension). Values stay as they are.
   */
  static of(plain) {
    if (plain instanceof Value) return plain;
    if (plain === null || plain === undefined) return new Value(addon.none());
    if (typeof plain === "boolean") return new Value(addon.boolean(plain));
    if (typeof plain === "bigint") return new Value(addon.integer(plain));
    if (typeof plain === "number") return new Value(addon.real(plain));
    if (typeof plain === "string") return new Value(addon.string(plain));
    if (ArrayBuffer.isView(plain)) return Value.tensor(plain);
    if (Array.isArray(plain)) return new Value(addon.list(plain.map((item) => Value.of(item).#handle)));
    if (plain instanceof Map || Object.getPrototypeOf(plain) === Object.prototype) {
      const dict = new Value(addon.dict());
      for (const [key, item] of plain instanceof Map ? plain : Object.entries(plain)) {
        addon.dictSet(dict.#handle, Value.of(key).#handle, Value.of(item).#handle);
      }
      return dict;
    }
    throw new TypeError(`a model does not take ${typeof plain === "object" ? plain.constructor?.name : typeof plain}`);
  }

  /** "none", "bool", "int", "float", "complex", "string", "tensor", "list", "tuple", "dict" or "other". */
  get kind() {
    return KINDS[addon.kind(this.#handle)];
  }

  /** The sizes of a tensor. */
  get shape() {
    return addon.shape(this.#handle);
  }

  /** The elements of a tensor in row-major order, converted to those of a typed array. */
  elements(Type = Float64Array) {
    return new Type(addon.elements(this.#handle, dtypeOf(Type)));
  }

  /** The items of a list, tuple or dict, and the keys of a dict in the same order. */
  items() {
    return addon.items(this.#handle).map((handle) => new Value(handle));
  }

  keys() {
    return addon.keys(this.#handle).map((handle) => new Value(handle));
  }

  /** The value as JavaScript's own: ints are BigInts, dicts are Maps, complex numbers [real, imaginary]; tensors stay values. */
  plain() {
    switch (this.kind) {
      case "none":
        return null;
      case "list":
      case "tuple":
        return this.items().map((item) => item.plain());
      case "dict": {
        const items = this.items();
        return new Map(this.keys().map((key, index) => [key.plain(), items[index].plain()]));
      }
      case "tensor":
      case "other":
        return this;
      default:
        return addon.scalar(this.#handle);
    }
  }

  /** Free it now; the garbage collector does so later otherwise. */
  close() {
    addon.close(this.#handle);
  }

  static handles(values) {
    return values.map((value) => value.#handle);
  }
}

/** A TorchScript model or an AOTInductor package. Any number of calls may run at once. */
class Model {
  #handle;

  /** Load a model on a device: "cpu", "cuda:0", … */
  constructor(path, device = "cpu") {
    this.#handle = addon.load(String(path), device);
  }

  /** Call the model on a worker thread; a promise of its value. Missing arguments take their defaults. */
  async forward(...args) {
    return new Value(await addon.forward(this.#handle, Value.handles(args.map(Value.of))));
  }

  /** The same on this thread. */
  forwardSync(...args) {
    return new Value(addon.forwardSync(this.#handle, Value.handles(args.map(Value.of))));
  }

  /** A shape for each argument of forward that has no default: a guess from the weights. */
  exampleShapes() {
    return addon.exampleShapes(this.#handle);
  }

  /** Free it when its last call is done; the garbage collector does so otherwise. */
  close() {
    addon.close(this.#handle);
  }
}

module.exports = { Model, Value, TorchError };
