/** What an artefact can be. */
export const ARTEFACT_KINDS = ['report', 'validation', 'import', 'other'] as const
export type ArtefactKind = (typeof ARTEFACT_KINDS)[number]
