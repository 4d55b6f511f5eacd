/** The lint: what IEC 62443 and experience ask of a zone-and-conduit document. The page of the docs is made from here. */
import type { Severity } from '../../policy/model.ts'

export interface Lint {
  severity: Severity
  /** Clause of the standard, or the reason where none says it. */
  clause: string
  /** What is found. */
  title: string
  /** What to do about it. */
  mend: string
}

const ZCR = 'IEC 62443-3-2:2020 ZCR'
const SR = 'IEC 62443-3-3:2013 SR'

/** Every lint by its id, which is stable. */
export const LINTS = {
  'sis-conduit': {
    severity: 'warning',
    clause: `${ZCR} 3.3: safety related assets are separated; IEC 61511-1`,
    title: 'a zone of a safety instrumented system that a conduit touches',
    mend: 'take the conduit away, or let the data leave by a diode and say so in a suppression',
  },
  'sis-with-bpcs': {
    severity: 'warning',
    clause: `${ZCR} 3.3: safety related assets are in zones of their own`,
    title: 'assets of a safety instrumented system and of basic process control in one zone',
    mend: 'make a zone for the safety instrumented system',
  },
  'enterprise-to-control': {
    severity: 'warning',
    clause: `${ZCR} 3.2: business and control assets are separated; ${SR} 5.1`,
    title: 'a conduit from the enterprise (level 4 or above) to control (level 2 or below)',
    mend: 'end the connection in the DMZ (level 3.5), and lead another from site operations (level 3) to control',
  },
  'bypasses-dmz': {
    severity: 'warning',
    clause: `${ZCR} 3.2; ${SR} 5.1, 5.2: the boundary is protected`,
    title: 'a conduit from level 4 or above to below the DMZ',
    mend: 'end the connection in a zone of level 3.5',
  },
  'dmz-traversal': {
    severity: 'warning',
    clause: `${SR} 5.2: traffic is controlled at the boundary; a session that passes the DMZ is not`,
    title: 'one session that passes through the DMZ instead of ending in it',
    mend: 'end it on a server of the DMZ: another protocol behind it, or "all connections terminate in DMZ" in the zone\'s security_requirements',
  },
  'conduit-not-allowed': {
    severity: 'error',
    clause: `${ZCR} 6.4: a zone lists the conduits that touch it`,
    title: "a conduit that is not in both of its zones' allowed_conduits",
    mend: 'add it to allowed_conduits of the zone, or take the conduit away',
  },
  'conduit-below-target': {
    severity: 'warning',
    clause: `${ZCR} 5.6: security level targets of zones and conduits`,
    title: "a conduit whose security level is below a zone's SL-T",
    mend: 'raise security_level of the conduit to the higher target, or accept the risk in a suppression',
  },
  'overlapping-zones': {
    severity: 'warning',
    clause: `${ZCR} 3.1, 6.3: an asset is in one zone`,
    title: 'zones whose networks overlap',
    mend: 'divide the addresses',
  },
  'asset-outside-zone': {
    severity: 'warning',
    clause: `${ZCR} 3.1, 6.3: an asset is in its zone`,
    title: "an asset whose address is not in its zone's networks",
    mend: 'move the asset, or add its network to the zone',
  },
  'writes-from-above': {
    severity: 'warning',
    clause: `${SR} 2.1: authorization enforcement; SR 5.2: zone boundary protection`,
    title: 'writing allowed from level 3 or above',
    mend: 'let level 3 read, and write from a workstation of the cell',
  },
  'all-functions': {
    severity: 'warning',
    clause: `${SR} 5.2 RE 1: deny by default, allow by exception; SR 7.7: least functionality`,
    title: 'every function allowed',
    mend: 'list the functions that are used: headgate learn drafts them from a capture',
  },
  'write-any-unit': {
    severity: 'warning',
    clause: `${SR} 7.7: least functionality; behind a serial gateway each unit is another device`,
    title: 'writing allowed to any unit identifier',
    mend: 'add unit_ids to the rule',
  },
  'write-any-address': {
    severity: 'warning',
    clause: `${SR} 7.7: least functionality; SR 3.5: input validation`,
    title: 'writing allowed to any register, coil or node',
    mend: 'add addresses (OPC UA: nodes, methods) to the rule',
  },
  'opcua-below-claim': {
    severity: 'warning',
    clause: `${SR} 3.1: communication integrity; SR 4.1: confidentiality`,
    title: 'OPC UA without SignAndEncrypt where the document claims encryption',
    mend: 'allow SignAndEncrypt alone, or take the claim back',
  },
  'opcua-none': {
    severity: 'warning',
    clause: `${SR} 3.1: communication integrity; SR 1.1, SR 1.2: identification and authentication`,
    title: 'OPC UA with security mode None',
    mend: 'allow Sign or SignAndEncrypt: discovery needs no more than the endpoint list',
  },
  'no-limits': {
    severity: 'warning',
    clause: `${SR} 7.1: denial of service protection; SR 7.2: resource management`,
    title: 'a protocol without limits of connections or requests',
    mend: 'add limits: headgate learn measures what is normal',
  },
  'enforce-without-evidence': {
    severity: 'warning',
    clause: `${SR} 2.8: auditable events; SR 2.12: non-repudiation; SR 6.1: audit log accessibility`,
    title: 'a conduit that enforces, and no evidence of what it denied',
    mend: 'add gateway.evidence',
  },
  'enforce-without-siem': {
    severity: 'warning',
    clause: `${SR} 6.2: continuous monitoring; SR 6.1: audit log accessibility`,
    title: 'a conduit that enforces, and no SIEM that hears of it',
    mend: 'add gateway.syslog',
  },
  'monitor-overdue': {
    severity: 'warning',
    clause: `${SR} 5.2: a boundary that only watches protects nothing; the document says until when it may`,
    title: 'a conduit, or a rule of it, that is still in monitor after its monitor_until',
    mend: 'set mode: enforce, or agree on another date',
  },
  'unused-suppression': {
    severity: 'warning',
    clause: 'a suppression that suppresses nothing hides the next finding',
    title: 'a suppression that no finding matches',
    mend: 'take it away, or mend its id or at',
  },
} as const satisfies Record<string, Lint>

export type LintId = keyof typeof LINTS
