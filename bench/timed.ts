/** CPU time of a loop, by rounds. */

export const ROUNDS = 9
export const FRAMES = 2_000_000

/**
 * Nanoseconds a frame of `pass`, which handles `frames` of them, in each round.
 * @param between is called after each round
 */
export function timed(frames: number, pass: () => void, between: () => void = () => {}): number[] {
  const passes = Math.ceil(FRAMES / frames)
  for (let i = 0; i < passes / 4; i++) pass()
  return Array.from({ length: ROUNDS }, () => {
    const start = process.cpuUsage()
    for (let i = 0; i < passes; i++) pass()
    const ns = (process.cpuUsage(start).user * 1000) / (passes * frames)
    between()
    return ns
  })
}
