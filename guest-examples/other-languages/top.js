// A guest in JavaScript that is a model: `values` in, the place of the largest value that the model `default` makes of
// them out. docs/guests.md has the commands.

import { loadByName } from "wasi:nn/graph@0.2.0-rc-2024-10-28";
import { Tensor } from "wasi:nn/tensor@0.2.0-rc-2024-10-28";

export const transform = {
  describe() {
    return {
      inputs: [{ name: "values", ty: "FP32", dimensions: [undefined] }],
      outputs: [
        { name: "place", ty: "I64", dimensions: [1] },
        { name: "value", ty: "FP32", dimensions: [1] },
      ],
    };
  },

  transform(inputs) {
    const [[, values]] = inputs;
    const model = loadByName("default");
    const context = model.initExecutionContext();
    const [[, output]] = context.compute([["x", values]]);
    const numbers = new Float32Array(output.data().slice().buffer);
    // Tensors are the host's memory, and would stay until the garbage collector comes.
    for (const held of [output, context, model]) held[Symbol.dispose]();
    const place = numbers.reduce((best, value, at) => (value > numbers[best] ? at : best), 0);
    const one = new Uint32Array([1]);
    return [
      ["place", new Tensor(one, "I64", new Uint8Array(new BigInt64Array([BigInt(place)]).buffer))],
      ["value", new Tensor(one, "FP32", new Uint8Array(new Float32Array([numbers[place]]).buffer))],
    ];
  },
};
