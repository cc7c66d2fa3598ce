/** Colours of charts, read from the style sheet: they follow the theme. */

/** `{series: [8 colours that the colour-blind tell apart], secondary, grid, surface}`. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => colour(`series-${n}`)),
    secondary: colour("secondary"),
    grid: colour("grid"),
    surface: colour("surface"),
  };
}

/** A #rrggbb colour, as transparent as said. */
export function withAlpha(colour, alpha) {
  return alpha >= 1
    ? colour
    : colour +
        Math.round(alpha * 255)
          .toString(16)
          .padStart(2, "0");
}

/** Calls back when the system changes between light and dark. */
export function onThemeChange(callback) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
}
