/**
 * The grammar of claims: the forms of prose that Headgate understands, and what each is held to. A claim is read in lower
 * case, with blanks and dashes as one blank; the first form that matches any part of it reads it. `docs/assurance.md` has
 * the table, made from here.
 */
import { blockWithin } from './address.ts'
import {
  atLevel,
  byRules,
  type Carried,
  clientZones,
  deniesWriting,
  inspected,
  notEnforced,
  type Outcome,
  place,
  rulePlace,
  type Scope,
  targetZones,
  together,
  writingRules,
} from './claim-scope.ts'
import { parseDirection } from './direction.ts'
import { OPCUA_SECURITY_MODES, type Zone } from './model.ts'
import { zoneBlocks } from './zones.ts'

export interface Form {
  id: string
  /** As the docs write it: words in capitals stand for something, `|` for a choice. */
  grammar: string
  pattern: RegExp
  /** What it is held to, in the words of the docs. */
  meaning: string
  /** An instance of it. */
  example: string
  hold(scope: Scope, match: RegExpExecArray, text: string): Outcome
}

const LEVEL = /(?:level|l|purdue level) ?(\d(?:\.5)?)(?: ?(\+|(?:or|and) (?:above|higher|up)))?/
const FROM = `from (?:the )?(?:${LEVEL.source}|(?:zone )?([a-z]\\w*\\d[\\w ]*?))(?= for\\b| to\\b|[.,;]|$)`

/** The zones that `from …` names; null where it names none of this document. */
function namedZones({ policy }: Scope, match: RegExpExecArray, at: number): Zone[] | null {
  const level = match[at]
  if (level !== undefined)
    return policy.zones.filter((zone) => atLevel(zone, Number(level), match[at + 1] !== undefined))
  const name = match[at + 2]?.trim()
  const zones = policy.zones.filter((zone) => [zone.id, zone.id.split('-')[0]].some((id) => sameName(id, name)))
  return zones.length === 0 ? null : zones
}
const sameName = (id: string, name: string | undefined): boolean =>
  name !== undefined && id.toLowerCase().replaceAll('-', ' ') === name

const attested = (detail: string): Outcome => ({ status: 'not-machine-checkable', by: 'people', detail })

/** Nothing here can hold it: no conduit that the claim speaks of has a protocol that Headgate carries. */
const nothingCarried = (what: string): Outcome => ({
  status: 'enforced-elsewhere',
  by: what,
  detail: 'no conduit that this speaks of has a protocol that Headgate carries',
})

/** Held for each protocol that Headgate carries; `wrong` finds what contradicts. */
function heldByRules(
  scope: Scope,
  why: string,
  wrong: (one: Carried & ReturnType<typeof inspected>[number]) => Outcome | null,
): Outcome {
  const all = inspected(scope)
  if (all.length === 0) return nothingCarried('boundary firewall')
  return together(
    all.map(
      (one) =>
        wrong(one) ??
        byRules(
          scope,
          one,
          one.protocol.rules.filter((rule) => rule.action === 'allow'),
          why,
        ),
    ),
  )
}

function contradictedBy(rule: Parameters<typeof rulePlace>[0], detail: string): Outcome {
  return { status: 'contradicted', by: `rule "${rule.name}"`, detail, places: [rulePlace(rule)] }
}

/** No rule lets anyone of `zones` write. With zones null: no rule lets anyone write across the boundary. */
function noWrites(scope: Scope, zones: Zone[] | null, into: Zone | null): Outcome {
  return heldByRules(scope, 'no rule allows them to write', (one) => {
    for (const rule of writingRules(one.protocol)) {
      const clients = clientZones(scope, one, rule)
      const writers =
        zones === null ? crossing(scope, one, rule, clients) : clients.filter((zone) => zones.includes(zone))
      const reached = into === null || targetZones(scope, one, rule).includes(into)
      const free = writers.filter((zone) => !deniesWriting(one.protocol, rule, zoneBlocks(zone)))
      if (free.length > 0 && reached)
        return contradictedBy(rule, `rule "${rule.name}" allows writing from ${free.map(({ id }) => id).join(', ')}`)
    }
    return null
  })
}

/** Clients that are in another zone than the targets. */
function crossing(scope: Scope, one: Carried, rule: Parameters<typeof rulePlace>[0], clients: Zone[]): Zone[] {
  const targets = targetZones(scope, one, rule)
  return clients.filter((zone) => targets.some((target) => target !== zone))
}

export function holdReadOnly(scope: Scope): Outcome {
  return noWrites(scope, null, scope.zone)
}

/** `writes restricted to WHOM`: an asset's name, a role, a zone. */
function writesRestrictedTo(scope: Scope, whom: string): Outcome {
  const words = whom
    .replace(/^(?:the|a|an) /, '')
    .replace(/ (?:subnet|network|zone|segment|only|hosts?|assets?)s?$/, '')
  const is = (name: string | null): boolean =>
    name !== null && [name, `${name}s`].some((one) => one.toLowerCase().replaceAll('-', ' ') === words)
  const assets = scope.policy.zones.flatMap((zone) => zone.assets.filter((asset) => is(asset.role) || is(asset.name)))
  const zones = scope.policy.zones.filter((zone) => is(zone.id) || is(zone.name) || is(zone.id.split('-')[0]))
  const blocks = [...assets.map((asset) => asset.address), ...zones.flatMap(zoneBlocks)]
  return heldByRules(scope, `only ${words} may write`, (one) => {
    for (const rule of writingRules(one.protocol)) {
      if (scope.zone !== null && !targetZones(scope, one, rule).includes(scope.zone)) continue
      const stranger = rule.from.find(
        (block) => !blockWithin(block, blocks) && !deniesWriting(one.protocol, rule, [block]),
      )
      const nobody = rule.from.length === 0 || blocks.length === 0
      if (stranger === undefined && !nobody) continue
      const who = stranger?.text ?? 'addresses that the document does not give'
      const none = blocks.length === 0 ? `; no asset or zone of the document is called "${words}"` : ''
      return contradictedBy(rule, `rule "${rule.name}" lets ${who} write${none}`)
    }
    return null
  })
}

function pairs(scope: Scope): Outcome {
  return heldByRules(scope, 'each rule names who may reach whom', (one) => {
    for (const rule of one.protocol.rules) {
      if (rule.action !== 'allow') continue
      const open = [...rule.from, ...rule.to].find(
        (block) => block.bits === 0 || (block.bits === 96 && block.base >> 32n === 0xffffn),
      )
      if (open !== undefined) return contradictedBy(rule, `rule "${rule.name}" names any address (${open.text})`)
      if (rule.from.length > 0 && rule.to.length > 0) continue
      const detail = `rule "${rule.name}" is for a zone whose addresses the document does not give`
      // While nothing is blocked it is a gap; once the conduit enforces, the list is empty on one side.
      const status = one.conduit.mode === 'enforce' ? 'contradicted' : 'not-enforced'
      return { status, by: `rule "${rule.name}"`, detail, places: [rulePlace(rule)] }
    }
    return null
  })
}

function rateLimits(scope: Scope): Outcome {
  const all = inspected(scope)
  if (all.length === 0) return nothingCarried('boundary firewall')
  return together(
    all.map((one) => {
      const at = [...one.path, 'limits']
      const { connectionsPerClient, connectionsPerTarget, newConnectionsPerSecond, ...rest } = one.protocol.limits
      const set = [
        ['connections.per_client', connectionsPerClient],
        ['connections.per_target', connectionsPerTarget],
        ['connections.new_per_second', newConnectionsPerSecond],
        ['requests.per_client_per_second', rest.requestsPerClientPerSecond],
        ['requests.per_target_per_second', rest.requestsPerTargetPerSecond],
      ].filter(([, figure]) => figure !== null)
      const gap = notEnforced(scope, one)
      if (set.length === 0) {
        const places = [
          { ...one.protocol.position, what: `${one.protocol.protocol} of ${one.conduit.id}, without limits` },
        ]
        const detail = `${one.protocol.protocol} of conduit ${one.conduit.id} has no limit of connections or requests`
        return { status: gap === null ? 'contradicted' : 'not-enforced', by: 'no limits', detail, places }
      }
      const by = `limits ${set.map(([key, figure]) => `${key}: ${figure}`).join(', ')}`
      const places = [{ ...scope.source.keyPosition(at), what: `limits of ${one.protocol.protocol}` }]
      if (gap !== null) return { status: 'not-enforced', by, detail: gap[0], places: [gap[1], ...places] }
      return { status: 'enforced-here', by, detail: 'over them a connection is refused and a request denied', places }
    }),
  )
}

function functionFiltering(scope: Scope): Outcome {
  return heldByRules(scope, 'each rule lists the functions that it allows', (one) => {
    if (one.protocol.kind !== 'modbus') return null
    const open = one.protocol.rules.find((rule) => rule.action === 'allow' && rule.functions.length >= 127)
    return open === undefined ? null : contradictedBy(open, `rule "${open.name}" allows every function`)
  })
}

/** Protocol inspection: by Headgate where it carries the conduit, else by the firewall that the claim names. */
function inspection(scope: Scope, _: RegExpExecArray, text: string): Outcome {
  const all = inspected(scope)
  if (all.length === 0) return firewall(scope, _, text)
  return together(
    all.map((one) =>
      byRules(
        scope,
        one,
        one.protocol.rules.filter((rule) => rule.action === 'allow'),
        'every message is decoded and held to the rules',
      ),
    ),
  )
}

function named(text: string, what: string): string {
  const brackets = /\(([^()]+)\)\s*$/.exec(text)?.[1]
  return brackets === undefined || brackets.length > 60 ? what : `${what} (${brackets})`
}

function firewall(scope: Scope, _: RegExpExecArray, text: string): Outcome {
  const where = scope.conduits.map(({ conduit }) => conduit.id).join(', ')
  const detail = `its configuration has to say so${where === '' ? '' : ` for ${where}`}: headgate render isa3000 or nftables writes one, headgate compare tells how another differs`
  return { status: 'enforced-elsewhere', by: named(text, 'boundary firewall'), detail }
}

function diode(scope: Scope, _: RegExpExecArray, text: string): Outcome {
  const back = scope.carried.find(
    ({ protocol }) => protocol.direction === text && parseDirection(protocol.direction)?.both === true,
  )
  if (back !== undefined) {
    const detail = 'the arrow of the same direction goes both ways'
    return {
      status: 'contradicted',
      by: 'direction',
      detail,
      places: [place(scope, [...back.path, 'direction'], 'direction')],
    }
  }
  const brand =
    scope.conduit === null ? named(text, 'data diode') : named(text.includes('->') ? '' : text, 'data diode')
  return {
    status: 'enforced-elsewhere',
    by: brand,
    detail: 'headgate validate diode tests it: forward flow, and no way back',
  }
}

function airGap(scope: Scope): Outcome {
  const way = scope.conduits[0]
  if (way === undefined) {
    const detail = 'no conduit of this document touches the zone; that no cable does is for people to see'
    return { status: 'enforced-elsewhere', by: 'cabling', detail }
  }
  return {
    status: 'contradicted',
    by: `conduit ${way.conduit.id}`,
    detail: `conduit ${way.conduit.id} connects the zone`,
    places: [place(scope, [...way.path, 'connects'], `connects of ${way.conduit.id}`)],
  }
}

const REMOTE = /\b(rdp|ssh|vnc|telnet|vpn|teamviewer|remote|citrix|x11|winrm)\b/i
function noRemoteAccess(scope: Scope): Outcome {
  const way = scope.carried.find(
    ({ protocol }) => REMOTE.test(protocol.protocol) || REMOTE.test(protocol.direction ?? ''),
  )
  if (way !== undefined) {
    const detail = `conduit ${way.conduit.id} allows ${way.protocol.protocol}`
    return {
      status: 'contradicted',
      by: `conduit ${way.conduit.id}`,
      detail,
      places: [{ ...way.protocol.position, what: way.protocol.protocol }],
    }
  }
  return {
    status: 'enforced-elsewhere',
    by: 'boundary firewall',
    detail:
      'no conduit of this document brings a protocol of remote access into the zone; modems and laptops are for people',
  }
}

function noInternet(scope: Scope): Outcome {
  const open = scope.conduits.find(({ conduit }) =>
    scope.policy.zones.some(
      (zone) =>
        zone !== scope.zone &&
        conduit.connects.includes(zone.id) &&
        ((zone.purdueLevel?.[1] ?? 0) >= 5 ||
          zone.networks.some((network) => network.bits === 0 || network.bits === 96)),
    ),
  )
  if (open === undefined) {
    const detail =
      'no conduit of this document connects it with level 5 or with any address; the firewall has to deny the rest'
    return { status: 'enforced-elsewhere', by: 'boundary firewall', detail }
  }
  const detail = `conduit ${open.conduit.id} connects it with level 5, or with any address`
  return {
    status: 'contradicted',
    by: `conduit ${open.conduit.id}`,
    detail,
    places: [place(scope, [...open.path, 'connects'], `connects of ${open.conduit.id}`)],
  }
}

function nothingBelowDmz(scope: Scope): Outcome {
  const below = (zone: Zone): boolean => zone.purdueLevel !== null && zone.purdueLevel[1] < 3.5
  const way = scope.conduits.find(({ conduit }) =>
    scope.policy.zones.some((zone) => zone !== scope.zone && conduit.connects.includes(zone.id) && below(zone)),
  )
  if (way === undefined) {
    const detail = 'no conduit of this document leads from it below the DMZ; the firewalls deny by default'
    return { status: 'enforced-elsewhere', by: 'boundary firewall', detail }
  }
  const detail = `conduit ${way.conduit.id} leads below the DMZ`
  return {
    status: 'contradicted',
    by: `conduit ${way.conduit.id}`,
    detail,
    places: [place(scope, [...way.path, 'connects'], `connects of ${way.conduit.id}`)],
  }
}

/** No rule or listener of a conduit of the zone reaches from one side of it to the other. */
function endsInDmz(scope: Scope): Outcome {
  const { zone, policy } = scope
  if (zone === null) return attested('people attest where connections end')
  for (const one of inspected(scope)) {
    const through = one.protocol.rules.find((rule) => {
      const beyond = (zones: Zone[]): boolean => zones.some((other) => other !== zone)
      return rule.action === 'allow' && beyond(clientZones(scope, one, rule)) && beyond(targetZones(scope, one, rule))
    })
    if (through !== undefined) return contradictedBy(through, `rule "${through.name}" reaches past ${zone.id}`)
  }
  const level = zone.purdueLevel?.[0] ?? 3.5
  const side = (id: string): number =>
    Math.sign((policy.zones.find((one) => one.id === id)?.purdueLevel?.[0] ?? level) - level)
  const past = policy.conduits.find(({ connects }) => side(connects[0]) * side(connects[1]) < 0)
  if (past !== undefined) {
    const detail = `conduit ${past.id} connects ${past.connects.join(' and ')}, past ${zone.id}`
    return {
      status: 'contradicted',
      by: `conduit ${past.id}`,
      detail,
      places: [{ ...past.position, what: `conduit ${past.id}` }],
    }
  }
  return {
    status: 'enforced-elsewhere',
    by: 'boundary firewall, and the servers of the zone',
    detail: `no conduit and no rule of this document passes ${zone.id}; that its servers do not forward is for people`,
  }
}

function securityMode(scope: Scope, match: RegExpExecArray): Outcome {
  const wanted = match[0].includes('encrypt') ? 2 : 1
  const one = scope.carried[0]
  if (one === undefined) return attested('no protocol here has a security mode')
  const { protocol } = one
  if (protocol.kind === 'modbus') {
    const detail = 'Modbus/TCP has neither signatures nor encryption'
    return { status: 'contradicted', by: 'Modbus/TCP', detail, places: [{ ...protocol.position, what: 'Modbus/TCP' }] }
  }
  if (protocol.kind === 'other') {
    return {
      status: 'enforced-elsewhere',
      by: `${protocol.protocol} server and clients`,
      detail: `Headgate does not carry ${protocol.protocol} of ${one.conduit.id}; the end points have to offer nothing less`,
    }
  }
  const at = [...one.path, 'opcua', 'security_modes']
  const weaker = protocol.securityModes.find((mode) => OPCUA_SECURITY_MODES.indexOf(mode) < wanted)
  if (weaker !== undefined) {
    const detail = `security mode ${weaker} is allowed as well`
    const places = [place(scope, at, 'security_modes')]
    return { status: 'contradicted', by: `security_modes: ${protocol.securityModes.join(', ')}`, detail, places }
  }
  const by = `security_modes: ${protocol.securityModes.join(', ')}`
  const gap = notEnforced(scope, one)
  if (gap !== null) return { status: 'not-enforced', by, detail: gap[0], places: [gap[1]] }
  return {
    status: 'enforced-here',
    by,
    detail: 'a channel that is less is closed',
    places: [place(scope, at, 'security_modes')],
  }
}

function toSiem(scope: Scope): Outcome {
  const { gateway } = scope.policy
  const sinks = gateway?.syslog ?? []
  if (sinks.length > 0) {
    const by = `syslog ${sinks.map(({ url }) => url).join(', ')}`
    return {
      status: 'enforced-here',
      by,
      detail: 'every event of this gateway is sent there',
      places: [place(scope, ['gateway', 'syslog'], 'syslog')],
    }
  }
  const detail = gateway === null ? 'the document has no gateway that would send events' : 'the gateway has no syslog'
  if (gateway === null) return { status: 'enforced-elsewhere', by: 'the devices that send them', detail }
  const enforcing = scope.conduits.some(({ conduit }) => conduit.mode === 'enforce')
  return {
    status: enforcing ? 'contradicted' : 'not-enforced',
    by: 'no syslog',
    detail,
    places: [place(scope, ['gateway'], 'gateway')],
  }
}

function defaultDeny(scope: Scope, match: RegExpExecArray, text: string): Outcome {
  const all = inspected(scope)
  if (all.length === 0) return firewall(scope, match, text)
  const held = together(all.map((one) => byRules(scope, one, [], 'what no rule allows is denied')))
  if (held.status !== 'enforced-here' || all.length === scope.carried.length)
    return { ...held, by: 'default of every conduit' }
  return {
    ...firewall(scope, match, text),
    detail: 'Headgate denies by default what it carries; the firewall has to deny the rest',
  }
}

/** In the order in which they are tried. */
export const FORMS: readonly Form[] = [
  {
    id: 'no-writes-from',
    grammar: 'block | deny | no … write … from LEVEL | ZONE',
    pattern: new RegExp(
      `(?:block|deny|den(?:y|ies)|no|prohibit|forbid)\\w* (?:all |any )?(?:\\w+ )?writ\\w*(?: \\w+)? ${FROM}`,
    ),
    meaning: 'No rule lets a client of that level or zone use a function that writes or programs.',
    example: 'block all write operations from L3',
    hold: (scope, match) => {
      const zones = namedZones(scope, match, 1)
      return zones === null ? attested('the document has no zone of that name') : noWrites(scope, zones, scope.zone)
    },
  },
  {
    id: 'read-only-from',
    grammar: 'read-only … from LEVEL | ZONE',
    pattern: new RegExp(`(?:read only|only reads?|reads? only)(?: \\w+)? ${FROM}`),
    meaning: 'No rule lets a client of that level or zone use a function that writes or programs.',
    example: 'Read-only access from Level 3 for data acquisition',
    hold: (scope, match) => {
      const zones = namedZones(scope, match, 1)
      return zones === null ? attested('the document has no zone of that name') : noWrites(scope, zones, scope.zone)
    },
  },
  {
    id: 'writes-restricted-to',
    grammar: 'write … restricted | limited | only to | from ROLE | ASSET | ZONE [subnet]',
    pattern:
      /\bwrit\w+(?: \w+)? (?:is |are )?(?:restricted|limited|only|reserved) (?:to|from|by|for) ([\w ]+?)(?=[.,;]|$)/,
    meaning: 'Every client of a rule that writes is an asset of that role or name, or of that zone.',
    example: 'Write access restricted to engineering workstation subnet',
    hold: (scope, match) => writesRestrictedTo(scope, match[1].trim()),
  },
  {
    id: 'pairs',
    grammar: 'allowlisted | whitelisted … source | destination | IP | pairs',
    pattern: /\b(?:allow|white) ?list\w*\b.*\b(?:ip|address\w*|pairs?|sources?|destinations?|hosts?)\b/,
    meaning: 'Every rule has clients and targets with addresses, none of them "any".',
    example: 'Allowlisted source/destination IP pairs',
    hold: pairs,
  },
  {
    id: 'rate-limit',
    grammar: '… rate | connection limiting | limits …',
    pattern: /\b(?:rate|connections?|requests?) (?:rate )?limit\w*\b|\bthrottl\w+/,
    meaning: '`limits` of connections or requests on each protocol that Headgate carries.',
    example: 'Connection rate limiting',
    hold: rateLimits,
  },
  {
    id: 'attested',
    grammar: '… MFA | USB | antivirus | session recording | patch | vendor | training | change management | badge …',
    pattern:
      /\b(mfa|multi ?factor|two factor|usb|removable media|anti ?virus|malware|session record\w*|patch\w*|vendor|training|change management|dual authori[sz]ation|badge|guard|lock(?:ed|s)?|password|account|backup|physical(?:ly)? secur\w*|procedure|policy review|screen)\b/,
    meaning: 'Nothing on the wire shows it: people attest it.',
    example: 'MFA required for all remote access sessions',
    hold: (_scope, match) => attested(`nothing that crosses the conduit shows it (${match[1]})`),
  },
  {
    id: 'function-filtering',
    grammar: 'function code filtering | restriction | allowlist',
    pattern:
      /\bfunction codes? (?:filter\w*|restrict\w*|allow ?list\w*|inspect\w*|control)\b|\bfilter\w* (?:of )?function codes?\b/,
    meaning: 'No rule allows every function.',
    example: 'Function code filtering',
    hold: functionFiltering,
  },
  {
    id: 'read-only',
    grammar: 'read only | no writes | block all writes',
    pattern: /\bread only\b|\b(?:no|block\w*|deny) (?:all )?writ\w+\b/,
    meaning: 'No rule lets a client of another zone use a function that writes or programs.',
    example: 'read only',
    hold: holdReadOnly,
  },
  {
    id: 'air-gap',
    grammar: 'air-gapped | physically isolated | no network conduits',
    pattern: /\bair ?gap\w*\b|\bphysically (?:isolated|separate\w*)\b|\bno (?:network )?conduits?\b/,
    meaning: 'No conduit connects the zone. That no cable does is for people to see.',
    example: 'Physically isolated from all other zones (air-gapped)',
    hold: airGap,
  },
  {
    id: 'no-remote-access',
    grammar: 'no remote access …',
    pattern: /\bno (?:\w+ )?remote access\b/,
    meaning: 'No conduit of the zone allows RDP, SSH, VNC, Telnet or another protocol of remote access.',
    example: 'No remote access permitted under any circumstances',
    hold: noRemoteAccess,
  },
  {
    id: 'nothing-below-dmz',
    grammar: 'no … access … below [the] DMZ',
    pattern: /\bno (?:\w+ )?access to any .*\bbelow (?:the )?(?:dmz|idmz)\b/,
    meaning: 'No conduit of the zone connects it with a level below 3.5.',
    example: 'No direct access to any OT zone below DMZ',
    hold: nothingBelowDmz,
  },
  {
    id: 'no-internet',
    grammar: 'no … internet …',
    pattern: /\bno (?:\w+ )*internet\b/,
    meaning: 'No conduit connects the zone with level 5 or with every address.',
    example: 'No direct internet access',
    hold: noInternet,
  },
  {
    id: 'ends-in-dmz',
    grammar: 'no … traversal | connections terminate in …',
    pattern: /\bno (?:\w+ )*traversal\b|\bconnections? (?:terminates?|ends?) in\b/,
    meaning: 'No conduit and no rule reaches from one side of the zone to the other.',
    example: 'No direct traffic traversal - all connections terminate in DMZ',
    hold: endsInDmz,
  },
  {
    id: 'security-mode',
    grammar: 'SignAndEncrypt | sign and encrypt | Sign | encrypted',
    pattern: /^sign ?and ?encrypt(?: only)?$|^sign(?: only)?$|^encrypted$/,
    meaning: 'OPC UA: no weaker `security_modes` than that. Elsewhere: for the end points.',
    example: 'SignAndEncrypt',
    hold: securityMode,
  },
  {
    id: 'diode',
    grammar: '… data diode | unidirectional …',
    pattern: /\b(?:data )?diode\b|\bunidirectional\b/,
    meaning: 'A data diode has to; a direction that says so must not go both ways.',
    example: 'unidirectional via data diode',
    hold: diode,
  },
  {
    id: 'inspection',
    grammar: '… DPI | protocol inspection …',
    pattern: /\bdpi\b|\bdeep packet\b|\bprotocol inspection\b|\binspects? (?:ot )?protocols?\b/,
    meaning: 'Headgate carries the conduit and enforces; else the firewall named.',
    example: 'Industrial firewall with OT protocol DPI',
    hold: inspection,
  },
  {
    id: 'default-deny',
    grammar: 'default deny | deny by default | deny all other …',
    pattern: /\bdefault deny\b|\bden(?:y|ies) by default\b|\bdeny all (?:other|else)\b/,
    meaning: 'What Headgate carries is denied unless a rule allows it; the rest is for the firewall.',
    example: 'Default deny between zones',
    hold: defaultDeny,
  },
  {
    id: 'siem',
    grammar: '… SIEM | syslog …',
    pattern: /\bsiem\b|\bsyslog\b/,
    meaning: 'The gateway has a `syslog` receiver.',
    example: 'Denied traffic is logged to the SIEM',
    hold: toSiem,
  },
  {
    id: 'firewall',
    grammar: '… firewall | SSL inspection | intrusion prevention …',
    pattern:
      /\bfirewalls?\b|\bssl inspection\b|\bapplication layer inspection\b|\bintrusion (?:prevention|detection)\b/,
    meaning: 'A firewall has to.',
    example: 'Firewall between operations and DMZ',
    hold: firewall,
  },
  {
    id: 'switch',
    grammar: '… VLAN | port security | 802.1X | switch …',
    pattern: /\bvlans?\b|\bport security\b|\b802\.1x\b|\bswitch(?:es)?\b|\bnetwork access control\b/,
    meaning: 'A switch has to: `headgate render vlan` writes its configuration.',
    example: 'Port security on every switch port',
    hold: (_scope, _match, text) => ({
      status: 'enforced-elsewhere',
      by: named(text, 'switch'),
      detail: 'headgate render vlan writes its configuration',
    }),
  },
]
