"use strict";
(() => {
  const every = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Findings: severity, rule and text together decide what is shown.
  const filter = document.querySelector(".filter");
  const findings = every(".finding").map((element) => ({ element, text: element.textContent.toLowerCase() }));
  const apply = () => {
    const severities = new Set(every("[name=severity]:checked", filter).map((box) => box.value));
    const rule = filter.elements.rule.value;
    const text = filter.elements.text.value.trim().toLowerCase();
    let shown = 0;
    for (const { element, text: own } of findings) {
      const fits = severities.has(element.dataset.severity) && (!rule || element.dataset.rule === rule) && own.includes(text);
      element.hidden = !fits;
      shown += fits;
    }
    filter.querySelector(".shown").textContent = `${shown} of ${findings.length} shown`;
  };
  if (findings.length > 0) {
    filter.hidden = false;
    filter.addEventListener("input", apply);
    filter.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // A printed page shows what is folded away on the screen, and goes back afterwards.
  let folded = [];
  addEventListener("beforeprint", () => { folded = every("details:not([open])"); folded.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => { folded.forEach((one) => { one.open = false; }); });

  // The graph: one tab stop, arrow keys inside.
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent?.append(element);
    return element;
  };
  const start = (figure) => {
    const { nodes, edges } = JSON.parse(figure.querySelector("script").textContent);
    const drawing = figure.querySelector(".drawing");
    const scroll = figure.querySelector(".scroll");
    const details = figure.querySelector(".details");
    const boxes = [];
    every(".node", drawing).forEach((box) => { boxes[Number(box.dataset.node)] = box; });
    const lines = every(".edge", drawing);
    const order = every(".node", drawing).map((box) => Number(box.dataset.node));
    const [width, height] = [drawing.viewBox.baseVal.width, drawing.viewBox.baseVal.height];
    let kept = null;
    let scale = 1;
    let chosenScale = false;

    const loader = new Map();
    edges.forEach(([source, target, loads]) => { if (loads) loader.set(target, source); });

    const list = (title, indexes, parent) => {
      if (indexes.length === 0) return;
      make("dt", title, parent);
      const items = make("ul", undefined, make("dd", undefined, parent));
      for (const index of indexes) {
        const button = make("button", nodes[index].name, make("li", undefined, items));
        button.type = "button";
        button.addEventListener("click", () => { choose(index, true); boxes[index].focus(); });
      }
    };
    const tell = (index) => {
      const node = nodes[index];
      details.replaceChildren();
      details.hidden = false;
      make("h4", node.name, details);
      const facts = make("dl", undefined, details);
      make("dt", "Path", facts);
      make("dd", node.path ?? "✗ not found", facts).className = node.path === null ? "bad" : "";
      make("dt", "How it was found", facts);
      make("dd", node.how, facts);
      if (node.findings.length > 0) {
        make("dt", "Findings", facts);
        const items = make("ul", undefined, make("dd", undefined, facts));
        node.findings.forEach((finding) => make("li", finding, items));
      }
      const chain = [];
      for (let at = index; loader.has(at); ) { at = loader.get(at); chain.unshift(at); }
      list("Loaded through", chain, facts);
      list("Needed by", edges.filter(([, target]) => target === index).map(([source]) => source), facts);
      list("Needs", edges.filter(([source]) => source === index).map(([, target]) => target), facts);
      if (node.searched.length > 0) {
        make("dt", "Searched", facts);
        const items = make("ol", undefined, make("dd", undefined, facts));
        node.searched.forEach((place) => make("li", place, items));
      }
    };
    const light = (index) => {
      drawing.classList.toggle("lit", index !== null);
      boxes.forEach((box) => box.classList.remove("near", "chosen"));
      lines.forEach((line) => line.classList.remove("hot", "into"));
      if (index === null) { details.hidden = true; return; }
      const chain = new Set([index]);
      for (let at = index; loader.has(at); ) { at = loader.get(at); chain.add(at); }
      edges.forEach(([source, target, loads], number) => {
        const path = loads === 1 && chain.has(source) && chain.has(target);
        if (source === index || target === index || path) {
          lines[number].classList.add("hot");
          drawing.insertBefore(lines[number], boxes[order[0]]); // above the pale ones, below the nodes
          if (target === index && !path) lines[number].classList.add("into");
          boxes[source].classList.add("near");
          boxes[target].classList.add("near");
        }
      });
      boxes[index].classList.add("near", "chosen");
      tell(index);
    };
    const choose = (index, keep) => {
      kept = keep ? index : kept;
      boxes.forEach((box, number) => {
        box.setAttribute("tabindex", number === (index ?? order[0]) ? "0" : "-1");
        box.setAttribute("aria-pressed", String(number === kept));
      });
      light(index ?? kept);
    };
    const move = (from, key) => {
      const column = order.filter((index) => nodes[index].column === nodes[from].column);
      const at = column.indexOf(from);
      if (key === "ArrowDown") return column[at + 1];
      if (key === "ArrowUp") return column[at - 1];
      if (key === "Home") return order[0];
      if (key === "End") return order[order.length - 1];
      if (key === "ArrowLeft") return loader.get(from);
      const below = edges.find(([source, , loads]) => source === from && loads === 1);
      return below?.[1];
    };
    boxes.forEach((box, index) => {
      box.addEventListener("click", () => { choose(kept === index ? null : index, true); });
      box.addEventListener("focus", () => choose(index, false));
      box.addEventListener("keydown", (event) => {
        if (["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
          event.preventDefault();
          const next = move(index, event.key);
          if (next !== undefined) { boxes[next].focus(); boxes[next].scrollIntoView({ block: "nearest", inline: "nearest" }); }
        } else if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          choose(kept === index ? null : index, true);
        }
      });
    });
    figure.addEventListener("focusout", (event) => { if (!figure.contains(event.relatedTarget)) light(kept); });
    figure.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null, true); });
    scroll.addEventListener("click", (event) => { if (!event.target.closest(".node")) choose(null, true); });

    const zoom = (to) => {
      scale = Math.min(Math.max(to, 0.15), 3);
      drawing.setAttribute("width", width * scale);
      drawing.setAttribute("height", height * scale);
    };
    // Until the reader zooms, a drawing a little too wide is made to fit; text stays legible down to 70 %.
    const settle = () => { if (!chosenScale) zoom(Math.min(1, Math.max(0.7, (scroll.clientWidth - 2) / width))); };
    const fit = () => zoom(Math.min(1, (scroll.clientWidth - 2) / width, (innerHeight - 120) / height));
    const zooms = { in: () => zoom(scale * 1.25), out: () => zoom(scale / 1.25), one: () => zoom(1), fit };
    every("[data-zoom]", figure).forEach((button) => button.addEventListener("click", () => {
      chosenScale = true;
      zooms[button.dataset.zoom]();
    }));
    new ResizeObserver(settle).observe(scroll);
    const repeats = figure.querySelector("[name=repeats]");
    repeats?.addEventListener("change", () => drawing.classList.toggle("every", repeats.checked));

    every(".tools, .keys", figure).forEach((element) => { element.hidden = false; });
    return (index) => { choose(index, true); boxes[index].focus(); boxes[index].scrollIntoView({ block: "center", inline: "center" }); };
  };
  const show = new Map(every("figure.graph").map((figure) => [figure.id, start(figure)]));
  every(".to-graph a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    show.get(`${link.dataset.graph}-graph`)(Number(link.dataset.node));
  }));
})();
