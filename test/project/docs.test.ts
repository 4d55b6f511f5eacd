/** What is generated says what the code says, and links in the docs lead somewhere. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { pages } from '../../scripts/docs.ts'
import { formatFinding } from '../../src/policy/findings.ts'
import { checkPolicy } from '../../src/policy/load.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('generated files are up to date (else: npm run docs)', async (t) => {
  for (const [file, text] of await pages()) t.equal(readFileSync(root + file, 'utf8'), text, file)
})

t.test('the policies in the README are clean', async (t) => {
  const blocks = [...readFileSync(`${root}README.md`, 'utf8').matchAll(/```yaml\n(.*?)```/gs)]
  t.ok(blocks.length > 0)
  for (const [, text] of blocks) {
    const { policy, findings } = checkPolicy('README.md', Buffer.from(text))
    t.same(findings.map(formatFinding), [])
    t.ok(policy?.gateway?.listeners.length)
  }
})

t.test('links between pages', async (t) => {
  const pagesOf = (folder: string, recursive: boolean): string[] =>
    readdirSync(root + folder, { recursive, encoding: 'utf8' })
      .filter((file) => file.endsWith('.md'))
      .map((file) => join(folder, file))
  const markdown = [...pagesOf('', false), ...pagesOf('docs', true), ...pagesOf('test/evasions', false)]
  t.ok(markdown.includes('README.md'))
  for (const file of markdown) {
    for (const [, link] of readFileSync(root + file, 'utf8').matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      t.ok(existsSync(join(root, dirname(file), link)), `${file}: ${link}`)
    }
  }
})
