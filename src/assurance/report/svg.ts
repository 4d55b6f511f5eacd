/** What the drawings of a report have in common. */
import { plain } from './text.ts'

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Text of HTML and SVG, for content and for attributes in double quotes. */
export const escapeXml = (text: string): string => plain(text).replaceAll(/[&<>"']/g, (char) => ENTITIES[char])

/** Cut to about `width` pixels in a sans-serif of `size`; wide letters are reckoned with. */
export function fit(text: string, width: number, size: number): string {
  const clean = plain(text)
  const most = Math.max(1, Math.floor(width / (size * 0.56)))
  const letters = [...clean]
  return letters.length <= most ? clean : `${letters.slice(0, most - 1).join('')}…`
}

/** A drawing with its name and description for those who cannot see it. `id` is unique on the page. */
export function drawing(
  id: string,
  width: number,
  height: number,
  name: string,
  description: string,
  body: string,
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="${id}-t ${id}-d" class="drawing">`,
    `<title id="${id}-t">${escapeXml(name)}</title><desc id="${id}-d">${escapeXml(description)}</desc>`,
    body,
    '</svg>',
  ].join('')
}
