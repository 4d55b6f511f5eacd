/**
 * Makes an inspecting session a plain relay, on whatever transport carries it: what inspection costs is what it takes
 * beyond this. `node --import ./plain.ts ../gateway.ts POLICY`; worker threads take `--import` along.
 */
import { InspectSession } from '../../src/protocols/opcua/inspect/inspect-session.ts'
import type { SessionHost } from '../../src/protocols/session.ts'

interface Held {
  host: SessionHost
}

InspectSession.prototype.onClientBytes = function (buf, start, end) {
  ;(this as unknown as Held).host.toTarget(buf, start, end)
}
InspectSession.prototype.onTargetBytes = function (buf, start, end) {
  ;(this as unknown as Held).host.toClient(buf, start, end)
}
