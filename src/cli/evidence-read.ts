/** Evidence as the verbs that learn from it read it. */

import { plural } from '../baseline/rules.ts'
import { Sightings } from '../baseline/sightings.ts'
import { expand } from '../records/evidence/paths.ts'
import { eachLine, inOrder } from '../records/evidence/verify.ts'
import { Refused } from './captures.ts'

/**
 * Puts together what evidence files, or directories of them, tell. Lines that are no records are counted and said.
 * @throws Refused where there is nothing to read
 */
export async function readEvidence(paths: readonly string[]): Promise<Sightings> {
  const sightings = new Sightings()
  let files: string[]
  try {
    files = await inOrder([...new Set(await expand(paths))])
  } catch (error) {
    const { code, path, message } = error as NodeJS.ErrnoException
    throw new Refused(code === 'ENOENT' ? `${path}: no such file or directory` : message)
  }
  for (const file of files) {
    await eachLine(file, Number.POSITIVE_INFINITY, (bytes, from, to) => {
      try {
        sightings.add(JSON.parse(bytes.toString('utf8', from, to)))
      } catch {
        sightings.unread++
      }
    })
  }
  if (sightings.unread > 0) {
    const lines = plural(sightings.unread, 'line')
    process.stderr.write(`headgate: ${lines} of it are no records; "headgate evidence verify" says more\n`)
  }
  return sightings
}
