/**
 * `@peculiar/x509`, loaded when a certificate is to be made or a revocation list to be read: it costs 0.1 s and 20 MB,
 * which a gateway without OPC UA does not pay (docs/decisions/0015).
 */
export async function loadX509(): Promise<typeof import('@peculiar/x509')> {
  // It asks for the metadata API when it is loaded.
  await import('reflect-metadata')
  return await import('@peculiar/x509')
}
