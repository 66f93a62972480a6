/* The random numbers of ddim.noise: one stream of Philox4x64-10 per image (Salmon et al., 2011), whose key is
 * (seed, index), and NumPy's standard normals in float32 by the ziggurat method (Marsaglia and Tsang, 2000).
 *
 * The bits are those of NumPy. The normals are, too, except where they depend on the last bit of exp or log: less
 * than one draw in a hundred does, and it then differs by rounding.
 */

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const WEYL = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];
const ROUNDS = 10;

/** Return the four words of 64 bits that Philox makes of a counter of four words and a key of two. */
export function philox(counter, key) {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const a = MULTIPLIERS[0] * c0;
    const b = MULTIPLIERS[1] * c2;
    [c0, c1, c2, c3] = [(b >> 64n) ^ c1 ^ k0, b & MASK, (a >> 64n) ^ c3 ^ k1, a & MASK];
    k0 = (k0 + WEYL[0]) & MASK;
    k1 = (k1 + WEYL[1]) & MASK;
  }
  return [c0, c1, c2, c3];
}

const STRIPS = 256;
const R = 3.654152885361008796; // where the tail begins
const AREA = 0.00492867323399; // of each strip under exp(-x^2 / 2)
const UNIT = 2 ** 23;

/** The ziggurat's tables: for each strip its width per unit, the units that surely lie below the curve, exp(-x^2 / 2). */
const { width, sure, height } = (() => {
  const x = new Float64Array(STRIPS);
  const density = (value) => Math.exp(-0.5 * value * value);
  x[STRIPS - 1] = R;
  for (let i = STRIPS - 2; i > 0; i--) x[i] = Math.sqrt(-2 * Math.log(AREA / x[i + 1] + density(x[i + 1])));
  const base = AREA / density(R); // the lowest strip is a box and the tail
  const width = Float32Array.from(x, (value, i) => (i ? value : base) / UNIT);
  const sure = Uint32Array.from(x, (value, i) => (i ? (x[i - 1] / value) * UNIT : (R / base) * UNIT));
  const height = Float32Array.from(x, density);
  return { width, sure, height };
})();

/** One image's stream of random numbers, as `ddim.noise.stream(seed, index)`. */
export class Stream {
  constructor(seed, index) {
    this.key = [BigInt(seed), BigInt(index)];
    this.block = 0n;
    this.words = []; // of 32 bits, in the order in which they are used
  }

  /** Return the next 32 random bits: of each word of 64 the lower half comes first. */
  bits() {
    if (!this.words.length) {
      this.block += 1n; // NumPy counts before the first block
      const words = philox([this.block, 0n, 0n, 0n], this.key);
      this.words = words.flatMap((word) => [Number(word & 0xffffffffn), Number(word >> 32n)]).reverse();
    }
    return this.words.pop();
  }

  /** Return a uniform float32 in [0, 1). */
  uniform() {
    return (this.bits() >>> 8) / 2 ** 24;
  }

  /** Return a standard normal float32. */
  normal() {
    for (;;) {
      const bits = this.bits();
      const strip = bits & 0xff;
      const units = bits >>> 9;
      const sign = (bits >>> 8) & 1 ? -1 : 1;
      const x = sign * Math.fround(units * width[strip]);
      if (units < sure[strip]) return x; // 99 draws of 100
      if (strip === 0) return this.tail((units >>> 8) & 1 ? -1 : 1);
      const step = Math.fround(height[strip - 1] - height[strip]);
      const y = Math.fround(Math.fround(step * this.uniform()) + height[strip]);
      if (y < Math.exp(-0.5 * x * x)) return x;
    }
  }

  /** Return a normal beyond R. */
  tail(sign) {
    for (;;) {
      const x = Math.fround(-(1 / R) * Math.fround(Math.log1p(-this.uniform())));
      const y = -Math.fround(Math.log1p(-this.uniform()));
      if (y + y > Math.fround(x * x)) return sign * Math.fround(Math.fround(R) + x);
    }
  }
}

/** Return a function that draws standard normals of `size` pixels for each image, as `ddim.noise.ImageNoise`. */
export function imageNoise(seed, indices) {
  const streams = indices.map((index) => new Stream(seed, index));
  return (size) => {
    const draws = new Float32Array(streams.length * size);
    streams.forEach((stream, row) => {
      for (let i = 0; i < size; i++) draws[row * size + i] = stream.normal();
    });
    return draws;
  };
}
