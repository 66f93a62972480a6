/* The page: its controls, what they start, and the Python and the command line that give the same. */

import { load } from "./network.js";
import { MaskEditor, draw, drawFour } from "./pictures.js";
import { ddnm, denoiser, levels, trajectory } from "./sampler.js";

const FILLINGS = 4;
const $ = (id) => document.getElementById(id);
const buttons = ["draw", "another", "fill-in"].map($);
const digits = [...Array(10).keys(), -1];

let model; // once it is loaded
let side = 28;
let shown = []; // the trajectory, one item for each level
let latest = 0; // number of the newest request: older ones stop

$("digits").append(
  ...digits.map((digit) => {
    const label = document.createElement("label");
    const name = digit < 0 ? "any" : digit;
    label.innerHTML = `<input type="radio" name="digit" value="${digit}"${digit === 3 ? " checked" : ""}><span>${name}</span>`;
    return label;
  }),
);
const editor = new MaskEditor($("mask"), side, () => {
  $("part").value = "none";
  describe();
});

/** Return what the controls of the first form say. */
function settings() {
  const digit = Number(document.querySelector("input[name=digit]:checked").value);
  const [steps, eta, guidance, seed] = ["steps", "eta", "guidance", "seed"].map((id) => Number($(id).value));
  return { digit, steps, eta, guidance, seed };
}

/** Show the values beside the sliders, and the Python and the command line. */
function describe() {
  for (const output of document.querySelectorAll("output[for]")) output.value = $(output.htmlFor).value;
  const { digit, steps, eta, guidance, seed } = settings();
  const weight = guidance === 1 ? ["", ""] : [`, guidance=${guidance}`, ` --guidance ${guidance}`];
  $("same-sample").textContent = `model = ddim.load("mnist", backend="torch")
model.sample(1, sampler="ddim", steps=${steps}, eta=${eta}, seed=${seed}, labels=[${digit}]${weight[0]})

ddim sample mnist --count 1 --sampler ddim --steps ${steps} --eta ${eta} --seed ${seed} --labels ${digit}${weight[1]}`;
  const label = $("told").checked ? digit : -1;
  $("same-fill").textContent = `# x: the digit, (1, 1, 28, 28); mask: (28, 28), 1 where it is seen
operator = ddim.edit.Mask(mask)
ddim.edit.restore(model, operator.forward(x), operator, method="ddnm",
                  steps=${steps}, seed=${seed}, count=${FILLINGS}, labels=[${label}])`;
}

/** Let the browser draw what has changed. */
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

/** Compute a trajectory while `each(item)` shows it; say how long it took, or what went wrong. */
async function run(what, options, calls, each) {
  const request = ++latest;
  const began = performance.now();
  document.body.setAttribute("aria-busy", "true");
  try {
    let count = 0;
    for await (const item of trajectory({ size: side * side, ...options })) {
      if (request !== latest) return;
      each(item);
      $("status").textContent = `${what}: step ${count++} of ${options.steps.length - 1}`;
      await painted();
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    $("status").textContent = `${what} in ${seconds} s, ${calls} network ${calls === 1 ? "call" : "calls"}.`;
  } catch (error) {
    $("status").textContent = `This could not be computed: ${error.message}. Reload the page and try again.`;
  } finally {
    if (request === latest) document.body.setAttribute("aria-busy", "false");
  }
}

async function sample() {
  const { digit, steps, eta, guidance, seed } = settings();
  const denoise = denoiser(model.network, [digit], guidance);
  shown = [];
  $("step").disabled = false;
  const calls = steps * (guidance === 1 ? 1 : 2);
  await run("A digit", { denoise, steps: levels(model.about, steps), eta, seed, count: 1 }, calls, (item) => {
    shown.push(item);
    $("step").max = shown.length - 1;
    $("step").value = $("step").max; // after the maximum, which bounds it
    show();
    editor.setImage(item.x0);
  });
}

/** Show the step of the trajectory that the slider is at. */
function show() {
  const step = Number($("step").value);
  if (!shown[step]) return;
  const { at, x, x0 } = shown[step];
  draw($("x"), x, side);
  draw($("x0"), x0, side);
  const snr = at.sigma ? `SNR ${((at.alpha / at.sigma) ** 2).toPrecision(3)}` : "no noise is left";
  $("level").textContent = `Step ${step}: t = ${at.t}, ${snr}`;
  $("step").setAttribute("aria-valuetext", $("level").textContent);
}

async function fill() {
  const { digit, steps, seed } = settings();
  const { known } = editor;
  if (known.every(Boolean)) {
    $("status").textContent = "All pixels are seen: brush over some of them, or choose a part to hide.";
    return;
  }
  if (!known.some(Boolean)) {
    $("status").textContent = "No pixel is seen: show some of them, so that there is something to go by.";
    return;
  }
  const repeat = (values) => Array.from({ length: FILLINGS * side * side }, (_, i) => values[i % (side * side)]);
  const labels = new Array(FILLINGS).fill($("told").checked ? digit : -1);
  const denoise = ddnm(denoiser(model.network, labels), repeat(editor.image), repeat(known));
  const options = { denoise, steps: levels(model.about, steps), eta: 1, seed, count: FILLINGS };
  await run("Four fillings", options, steps, ({ x0 }) => {
    drawFour($("filled"), x0, side);
    shown.filled = x0;
  });
}

$("sample").addEventListener("input", describe);
$("fill").addEventListener("input", describe);
$("sample").addEventListener("submit", (event) => {
  event.preventDefault();
  sample();
});
$("another").addEventListener("click", () => {
  $("seed").value = Number($("seed").value) + 1;
  describe();
  sample();
});
$("step").addEventListener("input", show);
$("part").addEventListener("change", () => editor.hide($("part").value));
$("clear").addEventListener("click", () => {
  $("part").value = "none";
  editor.hide("none");
});
$("fill").addEventListener("submit", (event) => {
  event.preventDefault();
  fill();
});
window.ddimPage = { trajectory: () => shown, known: () => editor.known }; // for tests, and for the curious

describe();
try {
  model = await load((megabytes) => {
    $("status").textContent = `Loading the network: ${megabytes.toFixed(1)} MB`;
  });
  side = model.about.shape[2];
  for (const button of buttons) button.disabled = false;
  $("status").textContent = "The network is ready: choose a digit and draw it.";
} catch (error) {
  $("status").textContent = `The network could not be loaded: ${error.message}`;
}
