// The gallery: choose data set, network, image and methods, and see the maps side by side. The page carries what there
// is to say of them; the maps of an image are one strip of tiles beside it.
"use strict";
(() => {
  const source = document.getElementById("gallery-data");
  if (!source) return;
  const { folder, settings } = JSON.parse(source.textContent);
  const find = name => document.getElementById("gallery-" + name);
  const [dataset, model, images, checks, count, words, maps] =
    ["dataset", "model", "images", "checks", "count", "words", "maps"].map(find);
  const tile = find("tile").content.firstElementChild;
  const left = new Set(); // methods that are not shown, whatever the network
  let image = 0;
  let current = null; // the example that is shown

  const setting = () => settings.find(one => one.dataset === dataset.value && one.model === model.value);
  const path = (one, number, suffix) => `${folder}/${one.dataset}/${one.model}/${number}.${suffix}`;
  const percent = share => (share < 0.005 ? "< 1" : share < 1 && share >= 0.995 ? "> 99" : Math.round(100 * share)) + "\u00a0%";
  const inWords = number => {
    const size = Math.abs(number);
    return String(number && (size < 1e-3 || size >= 1e5) ? number.toExponential() : number).replaceAll("-", "\u2212");
  };

  function options(select, pairs) {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
    if (pairs.some(([value]) => value === before)) select.value = before;
  }

  function chooseDataset() {
    const own = settings.filter(one => one.dataset === dataset.value);
    options(model, own.map(one => [one.model, one.model_label]));
    chooseModel();
  }

  // The image stays, where the other network shows it too.
  function chooseModel() {
    const one = setting();
    const isCurrent = ({ image, explained }) => image === current?.image && explained === current?.explained;
    image = Math.max(0, one.examples.findIndex(isCurrent));
    const labels = one.examples.map((example, number) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "gallery-image", value: number });
      const picture = Object.assign(document.createElement("img"), { src: path(one, number, "jpg"), alt: "", loading: "lazy" });
      input.checked = number === image;
      label.append(input, picture, example.explained);
      return label;
    });
    images.replaceChildren(images.querySelector("legend"), ...labels);
    checks.replaceChildren(...one.methods.map(method => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "checkbox", value: method.id, checked: !left.has(method.id) });
      label.append(input, method.label);
      return label;
    }));
    draw();
  }

  function figure(label, source, share, example, notes, isPhoto) {
    const item = tile.cloneNode(true);
    const [height, width] = example.size;
    const box = item.querySelector(".tile");
    const picture = item.querySelector("img");
    item.querySelector("b").textContent = label;
    item.querySelector("small").textContent = notes;
    box.style.aspectRatio = `${width} / ${height}`;
    picture.src = source;
    picture.alt = isPhoto ? `The image: ${example.explained}` : `Map of ${label} for ${example.explained}`;
    picture.className = isPhoto ? "photo" : "";
    // In shares of the strip's own height: nothing adds up over its tiles, whatever their shape.
    picture.style.transform = `translateY(${-100 * share}%)`;
    item.querySelector("svg").setAttribute("viewBox", `0 0 ${width} ${height}`);
    item.querySelector("path").setAttribute("d", isPhoto || find("outline").checked ? example.outline : "");
    return item;
  }

  function draw() {
    const one = setting();
    const example = (current = one.examples[image]);
    const shown = one.methods.map((method, place) => ({ ...method, place })).filter(method => !left.has(method.id));
    const right = example.explained === example.predicted;
    const outlined = { mask: "Its mask is outlined.", box: "Its boxes are outlined.", "": "Nobody outlined it here." }[example.outlined];
    words.textContent =
      `Image ${example.image}. Explained: ${example.explained}, to which the network gives ${percent(example.probability)}` +
      (right ? ", more than to any other class. " : `; it prefers ${example.predicted} with ${percent(example.predicted_probability)}. `) +
      outlined;
    count.textContent = `${shown.length} of ${one.methods.length}`;
    maps.replaceChildren(
      figure("Image", path(one, image, "jpg"), 0, example, "", true),
      ...shown.map(method => {
        const total = `sum ${inWords(example.totals[method.place])}`;
        const leak = method.leak ? `leak ${method.leak}` : "";
        return figure(method.label, path(one, image, "png"), method.place / one.methods.length, example, [total, leak].filter(Boolean).join("\n"), false);
      })
    );
  }

  dataset.addEventListener("change", chooseDataset);
  model.addEventListener("change", chooseModel);
  images.addEventListener("change", ({ target }) => { image = Number(target.value); draw(); });
  checks.addEventListener("change", ({ target }) => { left[target.checked ? "delete" : "add"](target.value); draw(); });
  find("outline").addEventListener("change", draw);
  const all = on => () => {
    for (const input of checks.querySelectorAll("input")) {
      input.checked = on;
      left[on ? "delete" : "add"](input.value);
    }
    draw();
  };
  find("all").addEventListener("click", all(true));
  find("none").addEventListener("click", all(false));

  options(dataset, [...new Map(settings.map(one => [one.dataset, one.dataset_label]))]);
  chooseDataset();
  find("explorer").hidden = false;
})();
