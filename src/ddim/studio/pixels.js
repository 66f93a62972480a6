// One image, pixel by pixel, painted by the pointer or the keyboard. `props.value` is the address of a PNG of the
// model's size. In the mode "mask" the brush makes pixels transparent, which means unknown.
const CELL = 12; // pixels of the screen for one of the image
let image = null; // ImageData: what is painted
let kept = null; // the same before painting, which the eraser restores
let cursor = [0, 0];
let shown = null; // the value that `image` holds
let painting = false;

const find = (name) => element.querySelector(name);
const sheet = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

function show() {
	const canvas = find("canvas");
	if (!canvas || !image) return;
	const { width, height } = image;
	if (canvas.width !== width * CELL) Object.assign(canvas, { width: width * CELL, height: height * CELL });
	const small = sheet(width, height);
	small.getContext("2d").putImageData(image, 0, 0);
	const pen = canvas.getContext("2d");
	pen.imageSmoothingEnabled = false;
	pen.fillStyle = "#d9660f"; // behind transparent pixels
	pen.fillRect(0, 0, canvas.width, canvas.height);
	pen.drawImage(small, 0, 0, canvas.width, canvas.height);
	if (document.activeElement === canvas) {
		pen.strokeStyle = "#2f6fde";
		pen.lineWidth = 3;
		pen.strokeRect(cursor[0] * CELL, cursor[1] * CELL, CELL, CELL);
	}
}

function load() {
	if (!props.value || props.value === shown) return show();
	const address = props.value;
	const picture = new Image();
	picture.onload = () => {
		const small = sheet(picture.width, picture.height);
		const pen = small.getContext("2d");
		pen.drawImage(picture, 0, 0);
		image = pen.getImageData(0, 0, picture.width, picture.height);
		kept = new ImageData(new Uint8ClampedArray(image.data), image.width, image.height);
		shown = address;
		show();
	};
	picture.src = address;
}

function stroke(x, y) {
	const [fromX, fromY] = cursor; // a fast pointer skips pixels: paint those between, too
	const steps = Math.max(1, Math.abs(x - fromX), Math.abs(y - fromY));
	for (let i = 1; i <= steps; i++) {
		cursor = [x, y].map((to, at) => Math.round([fromX, fromY][at] + ((to - [fromX, fromY][at]) * i) / steps));
		paint();
	}
	show();
}

function paint() {
	const size = Number(find("[name=brush]").value);
	const erase = find("[name=erase]").checked;
	const colour = find("[name=colour]")?.value ?? "#ffffff";
	const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
	for (let y = cursor[1] - (size >> 1), b = 0; b < size; b++, y++)
		for (let x = cursor[0] - (size >> 1), a = 0; a < size; a++, x++) {
			if (x < 0 || y < 0 || x >= image.width || y >= image.height) continue;
			const at = 4 * (y * image.width + x);
			if (erase) image.data.set([...kept.data.slice(at, at + 3), 255], at);
			else if (props.mode === "mask") image.data.set([0, 0, 0, 0], at);
			else image.data.set([...rgb, 255], at);
		}
}

function publish() {
	const small = sheet(image.width, image.height);
	small.getContext("2d").putImageData(image, 0, 0);
	props.value = shown = small.toDataURL("image/png");
	requestAnimationFrame(show);
}

function point(event) {
	const box = event.target.getBoundingClientRect();
	const place = (at, length, cells) => Math.max(0, Math.min(cells - 1, Math.floor((at / length) * cells)));
	return [
		place(event.clientX - box.left, box.width, image.width),
		place(event.clientY - box.top, box.height, image.height),
	];
}

element.addEventListener("pointerdown", (event) => {
	if (event.target.tagName !== "CANVAS" || !image) return;
	painting = true;
	event.target.setPointerCapture(event.pointerId);
	cursor = point(event);
	stroke(...cursor);
});
element.addEventListener("pointermove", (event) => {
	if (painting) stroke(...point(event));
});
for (const name of ["pointerup", "pointercancel"])
	element.addEventListener(name, () => {
		if (painting) publish();
		painting = false;
	});
element.addEventListener("keydown", (event) => {
	if (event.target.tagName !== "CANVAS" || !image) return;
	const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
	if (event.key in moves) {
		const [x, y] = moves[event.key];
		cursor = [
			Math.max(0, Math.min(image.width - 1, cursor[0] + x)),
			Math.max(0, Math.min(image.height - 1, cursor[1] + y)),
		];
		show();
	} else if (event.key === " ") {
		stroke(...cursor);
		publish();
	} else return;
	event.preventDefault();
});
element.addEventListener("focusin", show);
element.addEventListener("focusout", show);
watch("value", load);
load();
