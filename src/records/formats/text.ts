/** What every format does to text that came from a wire, before its own escapes. */

/** C0 and C1 controls, delete, and the two separators that some receivers take for the end of a line. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g
const HAS_CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/

/** One line of well-formed Unicode: each control character becomes a space, each half of a character U+FFFD. */
export function oneLine(text: string): string {
  return HAS_CONTROLS.test(text) ? text.toWellFormed().replace(CONTROLS, ' ') : text
}

/** Printable US-ASCII without spaces, as the header fields of RFC 5424 §6 want it; `-` where nothing is left. */
export function token(text: string, most: number): string {
  return text.replace(/[^\x21-\x7e]/g, '_').slice(0, most) || '-'
}
