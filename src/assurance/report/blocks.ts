/**
 * The report as sections of blocks, which every format prints in its own way. All text in it may have been written by
 * anybody: a format escapes each string that it prints.
 */

/** How a value is to be taken: `bad` wants something done, `warn` is to be looked at, `quiet` is by the way. */
export type Tone = 'good' | 'bad' | 'warn' | 'quiet'

export type Cell = string | { text: string; tone: Tone }

export const cellText = (cell: Cell): string => (typeof cell === 'string' ? cell : cell.text)
export const cellTone = (cell: Cell): Tone | null => (typeof cell === 'string' ? null : cell.tone)

export type Field = readonly [name: string, value: Cell | readonly Cell[]]

export interface Entry {
  title: string
  fields: readonly Field[]
}

export type Block =
  | { kind: 'text'; text: Cell }
  | { kind: 'fields'; fields: readonly Field[] }
  | { kind: 'entries'; entries: readonly Entry[] }
  | {
      kind: 'table'
      caption: string
      columns: readonly string[]
      rows: readonly (readonly Cell[])[]
      /** In the text formats: rows as lines of columns, or each as a record of its own. */
      shape: 'columns' | 'records'
    }
  /** A drawing, for formats that can show one; what it shows is told in words beside it. */
  | { kind: 'figure'; svg: string; caption: string }

export interface Section {
  heading: string
  blocks: readonly Block[]
}

export interface ReportDocument {
  title: string
  /** Under the title: facility, date, standard. */
  head: readonly Field[]
  sections: readonly Section[]
  /** What the page says of itself at its end. */
  colophon: string
}
