/* The network: an ONNX file that onnxruntime-web computes in WebAssembly with SIMD, on one thread. */

import * as ort from "./vendor/ort.wasm.bundle.min.mjs";

const GZIP = [0x1f, 0x8b];

/** Fetch a file and say how much of it has come; a gzip file is unpacked, unless the server has done so. */
async function read(path, report) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`${path} is missing (${response.status}); build the page again.`);
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    report(size);
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  if (!GZIP.every((byte, i) => bytes[i] === byte)) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

/**
 * Return the model: `about` (shape, classes, [t, alpha, sigma] at each training step) and `network(x, t, labels)`, a batch of v.
 *
 * `report(megabytes)` is called while the files come.
 */
export async function load(report) {
  const sizes = {};
  const add = (path) => (size) => {
    sizes[path] = size;
    report(Object.values(sizes).reduce((a, b) => a + b, 0) / 1e6);
  };
  const paths = ["./vendor/ort.wasm.gz", "./model/network.onnx", "./model/model.json"];
  const [wasm, weights, text] = await Promise.all(paths.map((path) => read(path, add(path))));
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // more need a page that is isolated from other origins
  const session = await ort.InferenceSession.create(weights, { executionProviders: ["wasm"] });
  const about = JSON.parse(new TextDecoder().decode(text));
  const [channels, height, width] = about.shape;

  async function network(x, t, labels) {
    const count = labels.length;
    const output = await session.run({
      x: new ort.Tensor("float32", x, [count, channels, height, width]),
      t: new ort.Tensor("float32", new Float32Array(count).fill(t - Number(about.indexed)), [count]),
      label: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [count]),
    });
    return output[session.outputNames[0]].data;
  }
  return { about, network };
}
