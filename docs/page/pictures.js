/* Images as pixels of a canvas, -1 black and 1 white; and the mask editor: which pixels of an image are known, chosen by
 * a part, by a pointer or by the keyboard.
 */

const HIDDEN = [206, 120, 40]; // the colour of pixels that are hidden
const BRUSH = [90, 160, 255];
const REACH = 1; // pixels from the middle of the brush to its edge
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Draw one image, with the hidden pixels and the brush in colour if there are any. */
export function draw(canvas, image, side, { known = null, brush = null } = {}) {
  const pixels = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    const grey = Math.round(255 * Math.min(1, Math.max(0, (image[i] + 1) / 2)));
    const hidden = known && !known[i];
    const light = (Math.floor(i / side) + i) % 2 ? 1 : 0.75; // a pattern, for whoever does not see the colour
    const colour = hidden ? HIDDEN.map((c) => c * light) : [grey, grey, grey];
    pixels.data.set([...colour, 255], 4 * i);
  }
  const context = canvas.getContext("2d");
  context.putImageData(pixels, 0, 0);
  if (brush) {
    context.strokeStyle = `rgb(${BRUSH})`;
    context.strokeRect(brush.x - 1.5, brush.y - 1.5, 4, 4);
  }
}

/** Draw a batch of four images in a square, with a gap of two pixels. */
export function drawFour(canvas, batch, side) {
  canvas.width = canvas.height = 2 * side + 2;
  const context = canvas.getContext("2d");
  for (let k = 0; k * side * side < batch.length; k++) {
    const one = new OffscreenCanvas(side, side);
    draw(one, batch.subarray(k * side * side, (k + 1) * side * side), side);
    context.drawImage(one, (k % 2) * (side + 2), Math.floor(k / 2) * (side + 2));
  }
}

/** For each part, whether the pixel (x, y) of an image with so many pixels a side is hidden. */
export const PARTS = {
  none: () => false,
  lower: (x, y, side) => y >= side / 2,
  right: (x, y, side) => x >= side / 2,
  box: (x, y, side) => [x, y].every((place) => place >= side / 4 && place < (3 * side) / 4),
  every: (x, y) => x % 2 === 1 || y % 2 === 1,
};

export class MaskEditor {
  /** `changed` is called when a pixel was hidden or shown by hand. */
  constructor(canvas, side, changed) {
    Object.assign(this, { canvas, side, changed });
    this.image = new Float32Array(side * side).fill(-1);
    this.known = new Array(side * side).fill(true);
    this.brush = { x: side >> 1, y: side >> 1 };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.stroke(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.stroke(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.show());
    this.show();
  }

  /** Show another image under the same mask. */
  setImage(image) {
    this.image = image;
    this.show();
  }

  /** Hide a part, and nothing else. */
  hide(part) {
    this.known = this.known.map((_, i) => !PARTS[part](i % this.side, Math.floor(i / this.side), this.side));
    this.show();
  }

  stroke(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (offset, size) => Math.min(this.side - 1, Math.max(0, Math.floor((offset / size) * this.side)));
    this.brush = { x: place(event.clientX - box.left, box.width), y: place(event.clientY - box.top, box.height) };
    this.paint(false);
  }

  key(event) {
    const move = MOVES[event.key];
    if (move) {
      const inside = (place) => Math.min(this.side - 1, Math.max(0, place));
      this.brush = { x: inside(this.brush.x + move[0]), y: inside(this.brush.y + move[1]) };
      this.show();
    } else if (event.key === " ") this.paint(false);
    else if (event.key === "Delete" || event.key === "Backspace") this.paint(true);
    else return;
    event.preventDefault(); // the page must not scroll
  }

  /** Make the pixels under the brush known, or hide them. */
  paint(known) {
    for (let y = this.brush.y - REACH; y <= this.brush.y + REACH; y++)
      for (let x = this.brush.x - REACH; x <= this.brush.x + REACH; x++)
        if (x >= 0 && y >= 0 && x < this.side && y < this.side) this.known[y * this.side + x] = known;
    this.show();
    this.changed();
  }

  show() {
    const brush = document.activeElement === this.canvas ? this.brush : null;
    draw(this.canvas, this.image, this.side, { known: this.known, brush });
  }
}
