/** The table of the Modbus data model that a function's addresses are of (V1.1b3 §4.3, §6). */
import type { ModbusTable } from '../policy/model.ts'

const TABLES: Readonly<Record<number, ModbusTable>> = {
  1: 'coils',
  2: 'discrete-inputs',
  3: 'holding-registers',
  4: 'input-registers',
  5: 'coils',
  6: 'holding-registers',
  15: 'coils',
  16: 'holding-registers',
  22: 'holding-registers',
  23: 'holding-registers',
  24: 'holding-registers',
}

/** @returns null for a function without addresses */
export const tableOf = (code: number): ModbusTable | null => TABLES[code] ?? null
