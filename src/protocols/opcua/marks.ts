/** What is noted of a request that waits for its answer, in a byte: whether it was told as overdue, and whether it is doubted. */

export const TOLD = 1
/** Above it, the index of its first doubtful item and one. */
const SHIFT = 1
const MOST = 126

/** Of a request that would be denied, the item at `index` first. */
export const doubtMark = (index: number): number => (Math.min(index, MOST) + 1) << SHIFT

/** The index; -1: the request is not doubted. */
export const doubtOf = (marks: number): number => (marks >> SHIFT) - 1
