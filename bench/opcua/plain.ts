/**
 * Makes an inspecting session a plain relay, on whatever transport carries it: what inspection costs is what it takes
 * beyond this. `node --import ./plain.ts ../gateway.ts POLICY`; worker threads take `--import` along.
 */
import { InspectSession } from '../../src/protocols/opcua/inspect/inspect-session.ts'

// Its host is its own business, but for this; the types see to it that it is there.
InspectSession.prototype.onClientBytes = function (buf, start, end) {
  // biome-ignore lint/complexity/useLiteralKeys: private
  this['state'].host.toTarget(buf, start, end)
}
InspectSession.prototype.onTargetBytes = function (buf, start, end) {
  // biome-ignore lint/complexity/useLiteralKeys: private
  this['state'].host.toClient(buf, start, end)
}
