// Elements made from values: what comes from outside only ever becomes text, never markup.

/**
 * make("button", {type: "button", className: "quiet", onclick: act}, "Copy"): an element, its properties (those with
 * a dash, and role, are attributes), and its children.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Told to those who listen instead of looking. */
export function announce(text) {
  byId("said").textContent = text;
}

/** A block of code with a button that copies it. */
export function copyable(title, code) {
  const button = make("button", { type: "button", className: "quiet", "aria-label": `Copy the ${title} line` }, "Copy");
  const block = make("code", {}, code);
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(code);
      button.textContent = "Copied";
      announce(`The ${title} line is copied.`);
    } catch {
      getSelection().selectAllChildren(block); // no right to the clipboard: ready for Ctrl-C
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  return make(
    "div",
    { className: "copyable" },
    make("div", { className: "copyable-head" }, make("h3", {}, title), button),
    make("pre", {}, block),
  );
}

/** At most once for each frame that is drawn. */
export function eachFrame(act) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      act();
    });
  };
}

/** After a pause in which it was not asked again. */
export function afterPause(milliseconds, act) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
}
