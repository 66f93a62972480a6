/* DDIM in the letters of its paper (arXiv 2010.02502): levels, predictions, guidance, the step, and DDNM for a mask.
 *
 * A batch is a Float32Array of `count` images of `size` pixels, one after the other.
 */

import { imageNoise } from "./noise.js";

/** Round to the nearest whole number, halves to the even one, as Python does. */
function round(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

/** Return the S + 1 levels with trailing times: t = T - round(i T / S), and t = 0. */
export function levels(model, S) {
  const T = model.training_steps.length - 1;
  const times = Array.from({ length: S }, (_, i) => T - round((i * T) / S)).concat(0);
  return times.map((i) => {
    const [t, alpha, sigma] = model.training_steps[i];
    return { t, alpha, sigma };
  });
}

/** Return x0 and eps of each pixel from the network's v: x0 = alpha x - sigma v, for alpha^2 + sigma^2 = 1. */
function predict(x, v, { alpha, sigma }) {
  return {
    x0: x.map((value, i) => alpha * value - sigma * v[i]),
    eps: x.map((value, i) => sigma * value + alpha * v[i]),
  };
}

/** Return the prediction with another x0, and the eps that belongs to it: eps = (x - alpha x0) / sigma. */
function fromX0(x, x0, { alpha, sigma }) {
  return { x0, eps: x.map((value, i) => (value - alpha * x0[i]) / sigma) };
}

/** Clip x0 to [-1, 1], and let eps follow. */
function clipped(denoise) {
  return async (x, at) => {
    const { x0 } = await denoise(x, at);
    return fromX0(x, x0.map((value) => Math.min(1, Math.max(-1, value))), at);
  };
}

/** The model's prediction, with classifier-free guidance v = v_u + w (v_c - v_u) (arXiv 2207.12598) if w is not 1. */
export function denoiser(network, labels, weight = 1) {
  const nobody = labels.map(() => -1);
  return async (x, at) => {
    let v = await network(x, at.t, labels);
    if (weight !== 1) {
      const without = await network(x, at.t, nobody);
      v = v.map((value, i) => without[i] + weight * (value - without[i]));
    }
    return predict(x, v, at);
  };
}

/** DDNM (arXiv 2212.00490, Eq. 13): where a pixel is known, y replaces x0; the network fills in the others. */
export function ddnm(denoise, y, known) {
  return async (x, at) => {
    const { x0 } = await denoise(x, at);
    return fromX0(x, x0.map((value, i) => (known[i] ? y[i] : value)), at);
  };
}

/** The share of DDPM's noise that a step from t to s injects: sigma_tau(eta) of Eq. 16. */
function std(eta, t, s) {
  const added = Math.sqrt(Math.max(0, t.sigma ** 2 - ((t.alpha * s.sigma) / s.alpha) ** 2));
  return ((eta * s.sigma) / t.sigma) * added;
}

/**
 * Yield the trajectory of DDIM from x_T to x_0, one step at a time (Eq. 12):
 *
 *     x_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std z
 *
 * Each item is the level that a step starts from with x and the x0 predicted there. The last one is x_0 itself.
 *
 * `options`: `denoise`, `steps` (levels), `eta`, `seed`, and `first` and `count`, the images of the seed.
 */
export async function* trajectory({ denoise, steps, eta, seed, first = 0, count, size }) {
  const noise = imageNoise(seed, Array.from({ length: count }, (_, i) => first + i));
  const predicted = clipped(denoise);
  let x = noise(size);
  for (let i = 0; i + 1 < steps.length; i++) {
    const [at, to] = [steps[i], steps[i + 1]];
    const { x0, eps } = await predicted(x, at);
    yield { at, x, x0 };
    const injected = std(eta, at, to);
    const direction = Math.sqrt(Math.max(0, to.sigma ** 2 - injected ** 2));
    const z = eta ? noise(size) : null;
    x = x.map((_, j) => to.alpha * x0[j] + direction * eps[j] + (z ? injected * z[j] : 0));
  }
  const image = x.map((value) => Math.min(1, Math.max(-1, value)));
  yield { at: steps[steps.length - 1], x: image, x0: image };
}
