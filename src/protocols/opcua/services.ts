/**
 * The services of OPC UA (OPC 10000-4 §5) by the type ids that their messages begin with: identifiers of the
 * DefaultBinary encodings in namespace 0 (OPC Foundation NodeIds.csv, 1.05; OPC 10000-6 §6.7.2.4 and annex A).
 */

/** Groups of services, as rules name them. */
export const OPCUA_SERVICE_GROUPS = [
  'discovery',
  'registration',
  'session',
  'browse',
  'query',
  'read',
  'history-read',
  'subscribe',
  'write',
  'history-write',
  'method',
  'node-management',
] as const

export type ServiceGroup = (typeof OPCUA_SERVICE_GROUPS)[number]

/** `channel`: the secure channel's own; `sessionless`: a request inside a request. No rule may name either. */
export type ServiceClass = ServiceGroup | 'channel' | 'sessionless'

export interface Service<Name extends string = string> {
  /** As the specification writes it. */
  name: Name
  group: ServiceClass
  /** Type id of the request. */
  request: number
  /** Type id of the response. */
  response: number
}

const row = <Name extends string>(
  group: ServiceClass,
  name: Name,
  request: number,
  response: number,
): Service<Name> => ({ name, group, request, response })

export const SERVICES = [
  row('channel', 'OpenSecureChannel', 446, 449),
  row('channel', 'CloseSecureChannel', 452, 455),
  row('discovery', 'FindServers', 422, 425),
  row('discovery', 'FindServersOnNetwork', 12208, 12209),
  row('discovery', 'GetEndpoints', 428, 431),
  row('registration', 'RegisterServer', 437, 440),
  row('registration', 'RegisterServer2', 12211, 12212),
  row('session', 'CreateSession', 461, 464),
  row('session', 'ActivateSession', 467, 470),
  row('session', 'CloseSession', 473, 476),
  row('session', 'Cancel', 479, 482),
  row('browse', 'Browse', 527, 530),
  row('browse', 'BrowseNext', 533, 536),
  row('browse', 'TranslateBrowsePathsToNodeIds', 554, 557),
  row('browse', 'RegisterNodes', 560, 563),
  row('browse', 'UnregisterNodes', 566, 569),
  row('query', 'QueryFirst', 615, 618),
  row('query', 'QueryNext', 621, 624),
  row('read', 'Read', 631, 634),
  row('history-read', 'HistoryRead', 664, 667),
  row('subscribe', 'CreateMonitoredItems', 751, 754),
  row('subscribe', 'ModifyMonitoredItems', 763, 766),
  row('subscribe', 'SetMonitoringMode', 769, 772),
  row('subscribe', 'SetTriggering', 775, 778),
  row('subscribe', 'DeleteMonitoredItems', 781, 784),
  row('subscribe', 'CreateSubscription', 787, 790),
  row('subscribe', 'ModifySubscription', 793, 796),
  row('subscribe', 'SetPublishingMode', 799, 802),
  row('subscribe', 'Publish', 826, 829),
  row('subscribe', 'Republish', 832, 835),
  row('subscribe', 'TransferSubscriptions', 841, 844),
  row('subscribe', 'DeleteSubscriptions', 847, 850),
  row('write', 'Write', 673, 676),
  row('history-write', 'HistoryUpdate', 700, 703),
  row('method', 'Call', 712, 715),
  row('node-management', 'AddNodes', 488, 491),
  row('node-management', 'AddReferences', 494, 497),
  row('node-management', 'DeleteNodes', 500, 503),
  row('node-management', 'DeleteReferences', 506, 509),
  row('sessionless', 'SessionlessInvoke', 15903, 21001),
]

export type ServiceName = (typeof SERVICES)[number]['name']

/** Type id of ServiceFault, which answers any request (OPC 10000-4 §7.34). */
export const SERVICE_FAULT = 397

const byName = (which: 'request' | 'response') =>
  Object.fromEntries(SERVICES.map((service) => [service.name, service[which]])) as Record<ServiceName, number>

/** Type ids of requests, and of responses, by the services' names. */
export const REQUEST = byName('request')
export const RESPONSE = byName('response')

/** Type ids beyond this are no service's; tables by type id have one entry more. */
export const MAX_TYPE_ID = 32_767

/**
 * What requests are counted by: `function` in metrics and events. The first are no services: a request of no service,
 * messages of the transport, and a message whose service encryption hides.
 */
export const FUNCTION = { unknown: 0, Hello: 1, ReverseHello: 2, encrypted: 3, services: 4 } as const

const FUNCTION_NAMES: readonly string[] = [
  'unknown',
  'Hello',
  'ReverseHello',
  'encrypted',
  ...SERVICES.map((s) => s.name),
]
export const FUNCTIONS = FUNCTION_NAMES.length

const byRequest = new Uint8Array(MAX_TYPE_ID + 1)
const byResponse = new Uint8Array(MAX_TYPE_ID + 1)
for (const [index, { request, response }] of SERVICES.entries()) {
  byRequest[request] = FUNCTION.services + index
  byResponse[response] = FUNCTION.services + index
}

/** Index of the function that a request's type id means, `FUNCTION.unknown` for any other number. */
export const functionOfRequest = (typeId: number): number => byRequest[typeId] | 0

/** The same for a response's; ServiceFault is none. */
export const functionOfResponse = (typeId: number): number => byResponse[typeId] | 0

/** Whether a response may begin with this type id. */
export const isResponse = (typeId: number): boolean => typeId === SERVICE_FAULT || functionOfResponse(typeId) !== 0

export const functionLabel = (index: number): string => FUNCTION_NAMES[index] ?? 'unknown'

/** The index of a function by its label; `FUNCTION.unknown` for any other text. */
export const functionOfName = (name: string): number => Math.max(FUNCTION.unknown, FUNCTION_NAMES.indexOf(name))

/** The service of a request's type id. */
export const serviceOf = (typeId: number): Service | undefined =>
  SERVICES[functionOfRequest(typeId) - FUNCTION.services]

/** Type ids of the requests of a group. */
export const servicesIn = (group: ServiceClass): number[] =>
  SERVICES.filter((service) => service.group === group).map(({ request }) => request)

/** Services that change the process, its history, its program or its address space. */
const CHANGING: ReadonlySet<ServiceClass> = new Set([
  'registration',
  'write',
  'history-write',
  'method',
  'node-management',
  'sessionless',
])

/** Whether a request of this type id changes something beyond the client's own session. */
export function isChange(typeId: number): boolean {
  const service = serviceOf(typeId)
  return service !== undefined && CHANGING.has(service.group)
}

/** The same by the index of its function. */
export const functionChanges = (fn: number): boolean =>
  fn >= FUNCTION.services && CHANGING.has(SERVICES[fn - FUNCTION.services].group)

/** What the prose "read only" allows: whatever leaves the process, its history and its program as they are. */
export const READ_ONLY_GROUPS: readonly ServiceGroup[] = [
  'discovery',
  'session',
  'browse',
  'query',
  'read',
  'history-read',
  'subscribe',
]
