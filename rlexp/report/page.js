"use strict";
// The page works without this: it adds copying of commands, toggling of contenders, and reading of values.
document.documentElement.classList.add("js");

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // a page from a server without https, or no permission
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

const shown = (value) => value === null ? "-" : Number.isInteger(value) ? String(value)
  : Math.abs(value) >= 10 ? value.toFixed(1) : String(Number(value.toPrecision(3)));

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.append(text, ...children);
  return made;
}

for (const figure of document.querySelectorAll("figure.curves")) {
  const area = figure.querySelector(".area"), cursor = figure.querySelector(".cursor");
  const readout = figure.querySelector(".readout"), most = 8;
  const svg = area.querySelector("svg"), ys = figure.querySelector(".ys"), levels = JSON.parse(area.dataset.levels);
  const {left, right, bottom, top} = JSON.parse(area.dataset.limits);
  let shownLimits = {bottom, top};
  const curves = [...figure.querySelectorAll("label")].map((label, index) => {
    const group = area.querySelector(`[data-curve="${index}"]`);
    return {label, group, box: label.querySelector("input"), ...JSON.parse(group.dataset.values)};
  });
  const visible = () => curves.filter((curve) => curve.box.checked && curve.steps.length);
  const nearest = (steps, step) => steps.reduce((best, other, index) =>
    Math.abs(other - step) < Math.abs(steps[best] - step) ? index : best, 0);
  let current = null;  // the step that is read

  function hide() {
    cursor.hidden = readout.hidden = true;
    current = null;
  }

  function read(wanted, value) {
    const there = visible();
    if (!there.length) return hide();
    const candidates = there.map((curve) => curve.steps[nearest(curve.steps, wanted)]);
    current = candidates[nearest(candidates, wanted)];
    let rows = there.map((curve) => ({curve, index: nearest(curve.steps, current)}));
    if (value !== null) {
      const away = ({curve, index}) => Math.abs((curve.middle[index] ?? Infinity) - value);
      rows.sort((a, b) => away(a) - away(b));
    }
    const left_out = Math.max(0, rows.length - most);
    rows = rows.slice(0, most).sort((a, b) => (b.curve.middle[b.index] ?? -Infinity) - (a.curve.middle[a.index] ?? -Infinity));
    readout.replaceChildren(element("b", `env step ${current.toLocaleString("en")}`), ...rows.map(({curve, index}) => {
      const own = curve.steps[index] === current ? "" : ` (step ${curve.steps[index].toLocaleString("en")})`;
      const interval = `[${shown(curve.low[index])}, ${shown(curve.high[index])}]`;
      return element("div", curve.label.querySelector("svg").cloneNode(true),
        element("span", `${curve.label.textContent.trim()}: ${shown(curve.middle[index])} ${interval}${own}`));
    }), ...(left_out ? [element("div", `and ${left_out} others`)] : []));
    const place = (current - left) / (right - left);
    cursor.style.left = `${100 * place}%`;
    readout.style.left = place < 0.5 ? "" : "0.3rem";
    readout.style.right = place < 0.5 ? "0.3rem" : "";
    cursor.hidden = readout.hidden = false;
  }

  for (const kind of ["pointermove", "pointerdown"]) {
    area.addEventListener(kind, (event) => {
      const box = area.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      read(left + x * (right - left), shownLimits.top - y * (shownLimits.top - shownLimits.bottom));
    });
  }
  area.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") hide();  // what a finger has touched stays
  });
  area.addEventListener("blur", hide);
  area.addEventListener("keydown", (event) => {
    const steps = [...new Set(visible().flatMap((curve) => curve.steps))].sort((a, b) => a - b);
    const at = steps.indexOf(current);
    const next = {ArrowRight: at + 1, ArrowLeft: at < 0 ? steps.length - 1 : at - 1, Home: 0, End: steps.length - 1}[event.key];
    if (event.key === "Escape") hide();
    if (next === undefined || !steps.length) return;
    event.preventDefault();
    read(steps[Math.min(Math.max(next, 0), steps.length - 1)], null);
  });

  function rescale() {  // to what is visible, as the picture is scaled to all
    const values = visible().flatMap((curve) => [...curve.low, ...curve.high, ...curve.middle]);
    const known = [...values.filter((value) => value !== null), ...levels];
    if (visible().length < curves.length && known.length) {
      const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
      const room = 0.05 * (high - low) || 1;
      shownLimits = {bottom: low - room, top: high + room};
    } else {
      shownLimits = {bottom, top};
    }
    const all = top - bottom, range = shownLimits.top - shownLimits.bottom, height = 500;
    const y = (value) => height * (top - value) / all;
    svg.setAttribute("viewBox", `0 ${y(shownLimits.top)} 1000 ${height * range / all}`);
    const power = 10 ** Math.floor(Math.log10(range / 6));
    const gap = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= range / 6);
    const ticks = [];
    for (let k = Math.ceil(shownLimits.bottom / gap); k * gap <= shownLimits.top; k++) ticks.push(Number((k * gap).toPrecision(6)));
    ys.replaceChildren(...ticks.map((value) => {
      const tick = element("span", String(value));
      tick.style.top = `${100 * (shownLimits.top - value) / range}%`;
      return tick;
    }));
    for (const line of svg.querySelectorAll(".grid")) line.remove();
    svg.prepend(...ticks.map((value) => {
      const line = document.createElementNS(svg.namespaceURI, "path");
      line.setAttribute("class", "grid");
      line.setAttribute("d", `M0 ${y(value)}H1000`);
      return line;
    }));
  }

  function update() {
    for (const {box, group} of curves) group.classList.toggle("off", !box.checked);
    rescale();
    hide();
  }
  for (const {label, box, group} of curves) {
    box.addEventListener("change", update);
    for (const event of ["pointerenter", "focusin"]) label.addEventListener(event, () => group.classList.add("strong"));
    for (const event of ["pointerleave", "focusout"]) label.addEventListener(event, () => group.classList.remove("strong"));
  }
  for (const button of figure.querySelectorAll("button[data-show]")) {
    button.addEventListener("click", () => {
      for (const {box} of curves) box.checked = button.dataset.show === "all";
      update();
    });
  }
  update();  // a browser may restore the boxes of an earlier visit
}
