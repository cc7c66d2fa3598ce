/** The only place where elements are made. Text goes in as text nodes, so nothing of a run becomes markup. */

import { visible } from "./visible.js";

/**
 * One element.
 *
 * `attributes`: `on…` are listeners, `value`, `checked`, `hidden` and `disabled` properties, the rest
 * attributes; null and false are left out. `children`: nodes, or what is shown as text.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (["value", "checked", "hidden", "disabled"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : visible(value));
  }
  element.append(...nodes(children));
  return element;
}

/** Put new children in place of the old ones. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Set an element's text, and touch the page only where it changes. */
export function say(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

function nodes(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(visible(child))));
}
