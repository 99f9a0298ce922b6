// Tables of the class "sort": a button in each head sorts, long ones have a filter. Without this file they are plain.
"use strict";
(() => {
  const LONG = 15;
  const MISSING = new Set(["", "none", "-", "\u2013", "\u2014"]);
  // A number at the start of a cell, with any of the signs that stand for minus; what follows, an interval or a unit,
  // counts no more. Identifiers such as 2007_000123 and section numbers such as 4.3.1 are none.
  const NUMBER = /^[\s[(<>\u2264\u2265\u2248~=\u00b1]*([+\-\u2212\u2013]?)\s*(\d+(?:\.\d*)?|\.\d+)(?:e([+\-\u2212]?\d+))?(?![\w.])/i;
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function numberOf(text) {
    const found = NUMBER.exec(text.replace(/(\d),(?=\d{3}(?!\d))/g, "$1"));
    if (!found) return null;
    const [, sign, digits, exponent = "0"] = found;
    return (sign && sign !== "+" ? -1 : 1) * Number(digits + "e" + exponent.replace("\u2212", "-"));
  }

  // What a column is sorted by, a value a row: numbers where all cells are such, else words; null where nothing stands.
  function keysOf(rows, column) {
    const texts = rows.map(row => row.cells[column].textContent.trim());
    const given = rows.map(row => row.cells[column].dataset.key);
    const missing = texts.map(text => MISSING.has(text));
    const numbers = texts.map((text, at) => (given[at] === undefined ? numberOf(text) : Number(given[at])));
    const numeric = numbers.every((number, at) => number !== null || missing[at]);
    return texts.map((text, at) => (missing[at] && given[at] === undefined ? null : numeric ? numbers[at] : text));
  }

  const compare = (a, b) => (typeof a === "number" ? a - b : words.compare(a, b));

  function sorted(rows, column, sign) {
    const keys = keysOf(rows, column);
    const order = (a, b) => {
      if (keys[a] === null || keys[b] === null) return (keys[a] === null) - (keys[b] === null);
      return sign * compare(keys[a], keys[b]);
    };
    return [...rows.keys()].sort((a, b) => order(a, b) || a - b).map(at => rows[at]);
  }

  // Heads, in the order of the columns; those that span several columns sort nothing.
  function addButtons(table, rows) {
    const heads = [...table.tHead.querySelectorAll("th[scope=col]")];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      const mark = document.createElement("span");
      button.type = "button";
      button.title = "Sort: up, down, as it was";
      mark.className = "mark";
      mark.setAttribute("aria-hidden", "true");
      button.append(...head.childNodes, mark);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
        const direction = next === undefined ? "ascending" : next;
        heads.forEach(other => other.removeAttribute("aria-sort"));
        if (direction) head.setAttribute("aria-sort", direction);
        const sign = direction === "descending" ? -1 : 1;
        table.tBodies[0].append(...(direction ? sorted(rows, column, sign) : rows));
      });
    });
  }

  function addFilter(table, rows) {
    const box = table.closest(".scroll");
    const line = document.createElement("p");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const said = document.createElement("span");
    line.className = "filter";
    input.type = "search";
    input.setAttribute("aria-label", "Filter rows of " + box.getAttribute("aria-label"));
    said.setAttribute("role", "status");
    label.append("Filter rows ", input);
    line.append(label, said);
    box.before(line);
    const texts = rows.map(row => [...row.cells].map(cell => cell.textContent).join(" ").toLowerCase());
    input.addEventListener("input", () => {
      const asked = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, at) => {
        row.hidden = !asked.every(word => texts[at].includes(word));
        shown += !row.hidden;
      });
      said.textContent = asked.length ? `${shown} of ${rows.length} rows` : "";
    });
  }

  for (const table of document.querySelectorAll("table.sort")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length > 1) addButtons(table, rows);
    if (rows.length > LONG) addFilter(table, rows);
  }

  // Paper shows what the screen folds away or has not loaded yet, but for listings, which are files beside the page.
  let folded = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("img[loading=lazy]").forEach(image => (image.loading = "eager"));
    folded = [...document.querySelectorAll("details:not([open]):not(.listing):not(.methods)")];
    folded.forEach(part => (part.open = true));
  });
  addEventListener("afterprint", () => folded.forEach(part => (part.open = false)));
})();
