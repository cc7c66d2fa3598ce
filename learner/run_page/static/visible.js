/** Characters that hide or reorder text, made visible: what a model wrote must look like what it wrote. */

const HIDDEN =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u{FE00}-\u{FE0E}\u{E0100}-\u{E01EF}\u{115F}\u{1160}\u{3164}]/gu;

/** Joiners are spelling in many scripts and emoji; only there do they pass. */
const JOINER =
  /(?<=[\p{L}\p{M}\p{Extended_Pictographic}\u{FE0F}])[\u200C\u200D](?=[\p{L}\p{Extended_Pictographic}])/gu;
const KEPT_JOINER = { "\u200C": "\uE0C0", "\u200D": "\uE0C1" };
const GIVEN_JOINER = { "\uE0C0": "\u200C", "\uE0C1": "\u200D" };

/** The text with every control, bidi and invisible character spelt as ⟨U+202E⟩; newline and tab stay. */
export function visible(text) {
  return String(text)
    .replace(/[\uE0C0\uE0C1]/gu, codePoint)
    .replace(JOINER, (joiner) => KEPT_JOINER[joiner])
    .replace(HIDDEN, (character) =>
      character === "\n" || character === "\t" ? character : codePoint(character),
    )
    .replace(/[\uE0C0\uE0C1]/gu, (kept) => GIVEN_JOINER[kept]);
}

/** The text on one line: newlines and tabs are shown as signs. */
export function oneLine(text) {
  return visible(text).replaceAll("\n", " ↵ ").replaceAll("\t", " ⇥ ");
}

function codePoint(character) {
  const hex = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return `⟨U+${hex}⟩`;
}
