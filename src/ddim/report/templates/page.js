// The contents are open where they have a column of their own; elsewhere they are a bar, and a choice closes them.
const contents = document.querySelector("nav details");
const wide = matchMedia("(min-width: 80rem)");
const arrange = () => (contents.open = wide.matches);
arrange();
wide.addEventListener("change", arrange);
contents.querySelector("ol").addEventListener("click", arrange);

// A click on a figure enlarges it.
const dialog = document.querySelector("dialog");
for (const image of document.querySelectorAll("figure .card img")) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `Enlarge ${image.alt}`);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    dialog.querySelector(".card").replaceChildren(image.cloneNode());
    dialog.showModal();
  });
}

// A click on a column's head sorts its table: by data-value, or by words where there is none; empty cells stay last.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const { dataset, textContent } = row.cells[column];
    return "value" in dataset ? Number(dataset.value) : textContent === "–" ? null : textContent;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        if (x === null || y === null) return (x === null) - (y === null);
        const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return up ? less : -less;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  });
}
