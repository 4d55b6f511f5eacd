/** Times that a person writes: `02:00`, `2026-12-01T02:00`, `2026-12-01T02:00+01:00`. */

const CLOCK = /^(\d\d):(\d\d)$/
const DATE = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?$/

/**
 * A time of day is the next one of this machine's time zone; a date without an offset is of that zone too.
 * @param now milliseconds since the epoch
 * @returns milliseconds since the epoch, or one line that says what is wrong with it
 */
export function parseWhen(text: string, now: number): number | string {
  const clock = CLOCK.exec(text)
  if (clock !== null) {
    const [hour, minute] = clock.slice(1).map(Number)
    const today = new Date(now)
    for (const day of [0, 1]) {
      const time = local(today.getFullYear(), today.getMonth(), today.getDate() + day, hour, minute, 0)
      // A time that today does not have is no matter once it would be past.
      if (typeof time === 'string' && day === 0 && hour * 60 + minute <= today.getHours() * 60 + today.getMinutes())
        continue
      if (typeof time === 'string' || time > now) return time
    }
  }
  const date = DATE.exec(text)
  if (date === null) return `found ${JSON.stringify(text)}, expected a time such as 02:00 or 2026-12-01T02:00`
  const [year, month, day, hour, minute, second = 0] = date.slice(1, 7).map((part) => Number(part ?? 0))
  const real = new Date(Date.UTC(year, month - 1, day, hour, minute, second))
  const fields = [real.getUTCMonth() + 1, real.getUTCDate(), real.getUTCHours(), real.getUTCMinutes()]
  if (fields.join() !== [month, day, hour, minute].join()) return `there is no ${text}`
  return date[7] === undefined ? local(year, month - 1, day, hour, minute, second) : Date.parse(text.replace(' ', 'T'))
}

/** Of two that have the same name, when clocks go back, the first. */
function local(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
): number | string {
  // By way of noon: what the day is does not depend on whether the hour is there.
  const noon = new Date(year, month, day, 12)
  const time = new Date(year, month, day, hour, minute, second)
  const two = (n: number): string => String(n).padStart(2, '0')
  if (hour > 23 || minute > 59) return `there is no ${two(hour)}:${two(minute)}`
  if (time.getHours() !== hour || time.getMinutes() !== minute) {
    const date = `${noon.getFullYear()}-${two(noon.getMonth() + 1)}-${two(noon.getDate())}`
    return `there is no ${two(hour)}:${two(minute)} on ${date} here: the clocks change; give another time, or one with an offset (+01:00)`
  }
  return time.getTime()
}

/** `Sat 2026-12-01 02:00:00 +01:00 (2026-12-01T01:00:00.000Z)`. */
export function showTime(ms: number): string {
  const date = new Date(ms)
  const two = (n: number): string => String(n).padStart(2, '0')
  const minutes = -date.getTimezoneOffset()
  const offset = `${minutes < 0 ? '-' : '+'}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`
  const day = date.toLocaleDateString('en-US', { weekday: 'short' })
  const local = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  return `${day} ${local} ${offset} (${date.toISOString()})`
}
