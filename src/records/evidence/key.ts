/** The key that signs the evidence: made on the first run, readable by its owner alone. */
import { chmod, open, readFile, writeFile } from 'node:fs/promises'
import { newKey, type SignerKey, signerOf } from './note.ts'

export interface LoadedKey {
  signer: SignerKey
  created: boolean
  /** What is wrong with the file's permissions, in words; empty: nothing. */
  exposed: string
}

/**
 * Reads the key, or makes one. The verifier key stands beside it, in a file with `.pub` behind the name.
 * @throws Error where the file can be neither read nor made, or holds no Ed25519 key
 */
export async function loadKey(path: string): Promise<LoadedKey> {
  let created = false
  try {
    const handle = await open(path, 'wx', 0o600)
    try {
      await handle.writeFile(newKey())
      await handle.sync()
    } finally {
      await handle.close()
    }
    // The umask can only take permissions away; this is for file systems that have their own idea of a default.
    await chmod(path, 0o600)
    created = true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const handle = await open(path, 'r')
  let pem: string
  let mode: number
  try {
    mode = (await handle.stat()).mode & 0o777
    pem = await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
  let signer: SignerKey
  try {
    signer = signerOf(pem)
  } catch (error) {
    throw new Error(`${path} holds no key: ${(error as Error).message}`)
  }
  const published = `${signer.verifier.text}\n`
  if ((await readFile(`${path}.pub`, 'utf8').catch(() => '')) !== published) await writeFile(`${path}.pub`, published)
  const exposed =
    (mode & 0o077) === 0 ? '' : `${path} has mode 0${mode.toString(8)}, expected 0600: others may sign with it`
  return { signer, created, exposed }
}
