#!/usr/bin/env node
// Plain JavaScript that any Node parses, so that an old one gets a sentence instead of a syntax error.
var version = process.versions.node.split('.').map(Number)
if (version[0] < 22 || (version[0] === 22 && version[1] < 12)) {
  console.error('headgate: Node.js 22.12 or newer is needed, this is ' + process.versions.node)
  process.exit(2)
}
import('../dist/cli/main.js').then(
  (cli) => {
    cli.main(process.argv)
  },
  (error) => {
    console.error('headgate: not built (' + error.message + '); run "npm run build" first')
    process.exit(2)
  },
)
