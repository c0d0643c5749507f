// Runs a model with tensors of ones: node main.js [--repeat N] MODEL [SIZE...]
// The sizes are those of each input; without them they follow from the model.
"use strict";

const { Model, Value } = require("./torchmodel.js");

function show(value) {
  switch (value.kind) {
    case "tensor":
      console.log(Array.from(value.elements(), (number) => Number(number.toPrecision(9))).join(" "));
      break;
    case "list":
    case "tuple":
    case "dict":
      value.items().forEach(show);
      break;
    case "none":
      console.log("none");
      break;
    default:
      console.log(String(value.plain()));
  }
}

async function run(path, sizes, repeat) {
  const model = new Model(path);
  const shapes = model.exampleShapes().map((shape) => (sizes.length > 0 ? sizes : shape));
  for (let number = 1; number <= repeat; number++) {
    const inputs = shapes.map((shape) => Value.tensor(new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(1), shape));
    const output = await model.forward(...inputs);
    if (number === repeat) show(output);
    for (const value of [...inputs, output]) value.close();
  }
}

/** A whole number; undefined where the text is none. */
function wholeNumber(text) {
  return /^\d{1,6}$/.test(text ?? "") ? Number(text) : undefined;
}

const args = process.argv.slice(2);
const repeat = args[0] === "--repeat" ? wholeNumber(args.splice(0, 2)[1]) : 1;
const [path, ...rest] = args;
const sizes = rest.map(wholeNumber);
if (path === undefined || repeat === undefined || sizes.includes(undefined)) {
  console.error("usage: node main.js [--repeat N] MODEL [SIZE...]");
  process.exitCode = 2;
} else {
  run(path, sizes, repeat).catch((error) => {
    console.error(`main.js: ${error.message}`);
    process.exitCode = 1;
  });
}
