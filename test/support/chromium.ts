/** A real browser for tests: Debian's chromium, with a profile of its own that is gone when the test has ended. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium } from 'playwright-core'
import type { Test } from 'tap'

const PATHS = [
  process.env.HEADGATE_TEST_CHROMIUM ?? '',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
]

/** What a test is skipped with; false: there is a browser. */
export const noChromium = (): string | false =>
  PATHS.some((path) => path !== '' && existsSync(path)) ? false : 'no chromium here (Debian: chromium)'

export async function browse(t: Test): Promise<BrowserContext> {
  const profile = mkdtempSync(join(tmpdir(), 'headgate-chromium-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: PATHS.find((path) => path !== '' && existsSync(path)),
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
    viewport: { width: 1000, height: 1400 },
    offline: true,
  })
  t.teardown(async () => {
    await context.close()
    rmSync(profile, { recursive: true, force: true })
  })
  return context
}
