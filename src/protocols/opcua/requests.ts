/**
 * Walks the bodies of requests whose services act on nodes (OPC 10000-4 §5): each item of the list with its NodeIds,
 * attribute and values, by offsets. A body that cannot be walked to its last byte is malformed, whatever else it holds.
 */
import { Cursor, ENCODING_FAULT, encodingFaultText, ID_TYPE, NodeRef } from './binary.ts'
import { RequestHeader, walkRequestHeader } from './headers.ts'
import { REQUEST } from './services.ts'

/** Faults of bodies beside those of encodings. */
export const BODY_FAULT = {
  /** HistoryRead or HistoryUpdate with details that OPC 10000-11 does not have, or not in binary. */
  details: 32,
} as const

/** Why a body is malformed, for an event. */
export const bodyFaultText = (fault: number): string =>
  fault === BODY_FAULT.details ? 'history details of an unknown type or encoding' : encodingFaultText(fault)

/** Attribute ids (OPC 10000-6 annex A.1). */
export const ATTRIBUTE = { none: 0, eventNotifier: 12, value: 13 } as const

/** Encodings of history details by their type ids (OPC 10000-11 §6.5, §6.6, §6.8, §6.9). */
const HISTORY = {
  readEvent: 646,
  readEventSorted: 18651,
  readEvent2: 32800,
  readRawModified: 649,
  readProcessed: 652,
  readAtTime: 655,
  readAnnotationData: 23500,
  updateData: 682,
  updateEvent: 685,
  deleteRawModified: 688,
  deleteAtTime: 691,
  deleteEvent: 694,
  updateStructureData: 11300,
} as const

/** The fewest bytes of an item, by service; 0: the service has no list of nodes. */
function leastItem(typeId: number): number {
  switch (typeId) {
    case REQUEST.Read:
      return 16
    case REQUEST.HistoryRead:
      return 16
    case REQUEST.Write:
      return 11
    case REQUEST.HistoryUpdate:
      return 3
    case REQUEST.Call:
      return 8
    case REQUEST.CreateMonitoredItems:
      return 40
    case REQUEST.Browse:
      return 17
    case REQUEST.TranslateBrowsePathsToNodeIds:
      return 6
    case REQUEST.RegisterNodes:
    case REQUEST.UnregisterNodes:
      return 2
    case REQUEST.AddNodes:
      return 21
    case REQUEST.AddReferences:
      return 15
    case REQUEST.DeleteNodes:
      return 3
    case REQUEST.DeleteReferences:
      return 8
    default:
      return 0
  }
}

/** Whether the walker yields the nodes that a request of this service acts on. */
export const hasNodes = (typeId: number): boolean => leastItem(typeId) !== 0

/**
 * One request at a time: `open`, then `next` until it is false, then `fault`. The fields hold until the next call.
 * Only when `next` has returned false with no fault is the request known to be well formed.
 */
export class RequestWalker {
  readonly header = new RequestHeader()
  buf: Uint8Array = new Uint8Array(0)
  /** Type id of the request; -1: none of namespace 0. */
  typeId = 0
  /** Items of the list, and how many of them `next` has given. */
  count = 0
  index = -1
  /** Offset behind the RequestHeader. */
  bodyAt = 0
  /** Offset of the list's count, four bytes. */
  countAt = 0
  /** The item: [itemAt, itemEnd). */
  itemAt = 0
  itemEnd = 0
  /** The node that the item acts on: the object of a Call, the parent of AddNodes, the source of a reference. */
  readonly node = new NodeRef()
  /** The method of a Call, the new node of AddNodes, the target of a reference. */
  readonly other = new NodeRef()
  hasOther = false
  /** Attribute id; 0: the service has none. */
  attribute = 0
  /** `values` DataValues that the item writes stand from this offset on; -1: none. */
  valueAt = -1
  values = 0
  /** The item sets a value that is not looked into (AddNodes). */
  hidesValue = false
  /** One of `ENCODING_FAULT` or `BODY_FAULT`. */
  fault = 0
  private readonly cursor = new Cursor()
  private readonly inner = new Cursor()
  private readonly scratch = new NodeRef()
  /** HistoryRead: the attribute that its details mean. */
  private historyAttribute = 0

  /**
   * Walks as far as the list's count.
   * @param at offset of the TypeId, @param end behind the body
   * @returns false where the request is malformed, or its service has no list of nodes
   */
  open(buf: Uint8Array, at: number, end: number): boolean {
    const { cursor } = this
    this.buf = buf
    cursor.open(buf, at, end)
    this.index = -1
    this.count = 0
    this.countAt = 0
    this.hasOther = false
    this.attribute = 0
    this.valueAt = -1
    this.values = 0
    this.hidesValue = false
    this.typeId = cursor.typeId()
    walkRequestHeader(cursor, this.header)
    this.bodyAt = cursor.at
    const least = leastItem(this.typeId)
    if (least !== 0) {
      this.prefix()
      this.countAt = cursor.at
      this.count = cursor.count(least)
    }
    this.fault = cursor.fault
    return this.fault === 0 && least !== 0
  }

  /** What stands before the list. */
  private prefix(): void {
    const { cursor } = this
    switch (this.typeId) {
      case REQUEST.Read:
        // maxAge, timestampsToReturn
        cursor.skip(12)
        return
      case REQUEST.CreateMonitoredItems:
        // subscriptionId, timestampsToReturn
        cursor.skip(8)
        return
      case REQUEST.Browse:
        // View: viewId, timestamp, viewVersion; requestedMaxReferencesPerNode
        cursor.nodeId(this.scratch)
        cursor.skip(16)
        return
      case REQUEST.HistoryRead: {
        const encoding = cursor.extensionObject(this.scratch)
        this.historyAttribute = historyReadAttribute(this.scratch)
        if (encoding !== 1 || this.historyAttribute === 0) cursor.fail(BODY_FAULT.details)
        // timestampsToReturn, releaseContinuationPoints
        cursor.skip(5)
        return
      }
    }
  }

  /** Moves to the next item. @returns false behind the last one, or at a fault */
  next(): boolean {
    const { cursor } = this
    if (this.fault !== 0) return false
    if (this.index + 1 >= this.count) {
      // No service that acts on nodes has anything behind its list.
      cursor.finish()
      this.fault = cursor.fault
      return false
    }
    this.index++
    this.itemAt = cursor.at
    this.item()
    this.itemEnd = cursor.at
    this.fault = cursor.fault
    return this.fault === 0
  }

  private item(): void {
    const { cursor, node, other, scratch } = this
    switch (this.typeId) {
      case REQUEST.Read:
        this.readValueId()
        return
      case REQUEST.CreateMonitoredItems:
        this.readValueId()
        // monitoringMode; clientHandle, samplingInterval, filter, queueSize, discardOldest
        cursor.skip(16)
        cursor.skipExtensionObject()
        cursor.skip(5)
        return
      case REQUEST.Write:
        cursor.nodeId(node)
        this.attribute = cursor.u32()
        cursor.bytes()
        this.valueAt = cursor.at
        this.values = 1
        cursor.skipDataValue()
        return
      case REQUEST.HistoryRead:
        cursor.nodeId(node)
        this.attribute = this.historyAttribute
        cursor.bytes()
        cursor.skipQualifiedName()
        cursor.bytes()
        return
      case REQUEST.HistoryUpdate:
        this.historyUpdate()
        return
      case REQUEST.Call: {
        cursor.nodeId(node)
        cursor.nodeId(other)
        this.hasOther = true
        const inputs = cursor.count(1)
        for (let i = 0; i < inputs && cursor.fault === 0; i++) cursor.skipVariant()
        return
      }
      case REQUEST.Browse:
        cursor.nodeId(node)
        // browseDirection; referenceTypeId; includeSubtypes, nodeClassMask, resultMask
        cursor.skip(4)
        cursor.nodeId(scratch)
        cursor.skip(9)
        return
      case REQUEST.TranslateBrowsePathsToNodeIds: {
        cursor.nodeId(node)
        const elements = cursor.count(10)
        for (let i = 0; i < elements && cursor.fault === 0; i++) {
          cursor.nodeId(scratch)
          cursor.skip(2)
          cursor.skipQualifiedName()
        }
        return
      }
      case REQUEST.RegisterNodes:
      case REQUEST.UnregisterNodes:
        cursor.nodeId(node)
        return
      case REQUEST.AddNodes:
        cursor.expandedNodeId(node)
        cursor.nodeId(scratch)
        cursor.expandedNodeId(other)
        this.hasOther = !other.isNull(this.buf)
        this.hidesValue = true
        cursor.skipQualifiedName()
        cursor.skip(4)
        cursor.skipExtensionObject()
        cursor.expandedNodeId(scratch)
        return
      case REQUEST.AddReferences:
        cursor.nodeId(node)
        cursor.nodeId(scratch)
        cursor.skip(1)
        cursor.bytes()
        cursor.expandedNodeId(other)
        this.hasOther = true
        cursor.skip(4)
        return
      case REQUEST.DeleteNodes:
        cursor.nodeId(node)
        cursor.skip(1)
        return
      case REQUEST.DeleteReferences:
        cursor.nodeId(node)
        cursor.nodeId(scratch)
        cursor.skip(1)
        cursor.expandedNodeId(other)
        this.hasOther = true
        cursor.skip(1)
        return
    }
  }

  /** OPC 10000-4 §7.29. */
  private readValueId(): void {
    const { cursor } = this
    cursor.nodeId(this.node)
    this.attribute = cursor.u32()
    cursor.bytes()
    cursor.skipQualifiedName()
  }

  /** OPC 10000-11 §6.8, §6.9: the details are the item, and begin with the node. */
  private historyUpdate(): void {
    const { cursor, inner, node } = this
    const encoding = cursor.extensionObject(this.scratch)
    if (encoding !== 1 || cursor.from === -1 || !isStandard(this.scratch)) {
      cursor.fail(BODY_FAULT.details)
      return
    }
    inner.open(cursor.buf, cursor.from, cursor.to)
    inner.nodeId(node)
    this.attribute = ATTRIBUTE.value
    this.valueAt = -1
    this.values = 0
    switch (this.scratch.id) {
      case HISTORY.updateData:
      case HISTORY.updateStructureData:
        // performInsertReplace
        inner.skip(4)
        this.values = inner.count(1)
        this.valueAt = inner.at
        for (let i = 0; i < this.values && inner.fault === 0; i++) inner.skipDataValue()
        break
      case HISTORY.updateEvent: {
        this.attribute = ATTRIBUTE.eventNotifier
        inner.skip(4)
        skipEventFilter(inner, this.scratch)
        const events = inner.count(4)
        for (let i = 0; i < events && inner.fault === 0; i++) {
          const fields = inner.count(1)
          for (let j = 0; j < fields && inner.fault === 0; j++) inner.skipVariant()
        }
        break
      }
      case HISTORY.deleteRawModified:
        inner.skip(17)
        break
      case HISTORY.deleteAtTime:
        inner.skip(8 * inner.count(8))
        break
      case HISTORY.deleteEvent: {
        this.attribute = ATTRIBUTE.eventNotifier
        const ids = inner.count(4)
        for (let i = 0; i < ids && inner.fault === 0; i++) inner.bytes()
        break
      }
      default:
        cursor.fail(BODY_FAULT.details)
        return
    }
    if (!inner.finish()) cursor.fail(inner.fault)
  }
}

const isStandard = (ref: NodeRef): boolean => ref.namespace === 0 && ref.type === ID_TYPE.numeric

/** @returns the attribute whose history the details read; 0: unknown details */
function historyReadAttribute(type: NodeRef): number {
  if (!isStandard(type)) return 0
  switch (type.id) {
    case HISTORY.readRawModified:
    case HISTORY.readProcessed:
    case HISTORY.readAtTime:
    case HISTORY.readAnnotationData:
      return ATTRIBUTE.value
    case HISTORY.readEvent:
    case HISTORY.readEvent2:
    case HISTORY.readEventSorted:
      return ATTRIBUTE.eventNotifier
    default:
      return 0
  }
}

/** OPC 10000-4 §7.22.3: select clauses (SimpleAttributeOperand), and a where clause (ContentFilter). */
function skipEventFilter(cursor: Cursor, scratch: NodeRef): void {
  const clauses = cursor.count(14)
  for (let i = 0; i < clauses && cursor.fault === ENCODING_FAULT.none; i++) {
    cursor.nodeId(scratch)
    const path = cursor.count(6)
    for (let j = 0; j < path && cursor.fault === ENCODING_FAULT.none; j++) cursor.skipQualifiedName()
    cursor.skip(4)
    cursor.bytes()
  }
  const elements = cursor.count(8)
  for (let i = 0; i < elements && cursor.fault === ENCODING_FAULT.none; i++) {
    cursor.skip(4)
    const operands = cursor.count(3)
    for (let j = 0; j < operands && cursor.fault === ENCODING_FAULT.none; j++) cursor.skipExtensionObject()
  }
}
