/**
 * What deny rules take away from a rule that allows: all of it, from every client and target that the rule knows, whatever
 * else a request has. A deny rule that only watches, or that asks for more (units, nodes, a channel's security), takes
 * nothing away for certain.
 */
import type { FunctionSelector } from '../protocols/modbus/function-codes.ts'
import { blockWithin } from './address.ts'
import { covers } from './direction.ts'
import type { AddressBlock, ModbusRule, OpcUaRule, Range } from './model.ts'

interface Ends {
  from: readonly AddressBlock[]
  to: readonly AddressBlock[]
}

function takes(deny: ModbusRule | OpcUaRule, { from, to }: Ends): boolean {
  if (deny.action !== 'deny' || deny.mode === 'monitor' || from.length === 0 || to.length === 0) return false
  return from.every((block) => blockWithin(block, deny.from)) && to.every((block) => blockWithin(block, deny.to))
}

const holdsUnits = (outer: readonly Range[] | null, inner: readonly Range[] | null): boolean =>
  outer === null ||
  (inner !== null && inner.every(([low, high]) => outer.some((one) => one[0] <= low && high <= one[1])))

/** @param of the rule that allows the function, or the part of it that is asked about */
export const deniedFunction = (
  rules: readonly ModbusRule[],
  of: Ends & Pick<ModbusRule, 'unitIds'>,
  selector: FunctionSelector,
): boolean =>
  rules.some(
    (deny) =>
      takes(deny, of) &&
      deny.addresses === null &&
      holdsUnits(deny.unitIds, of.unitIds) &&
      covers(deny.functions, selector),
  )

/** @param of the rule that allows the service, or the part of it that is asked about */
export const deniedService = (rules: readonly OpcUaRule[], of: Ends, service: number): boolean =>
  rules.some(
    (deny) =>
      takes(deny, of) &&
      [deny.nodes, deny.attributes, deny.methods].every((each) => each === null) &&
      [deny.certificates, deny.securityMode, deny.securityPolicies].every((each) => each === null) &&
      deny.services.includes(service),
  )
