// Resolves names below localhost to the loopback address (RFC 6761 section 6.3), because
// not every system's resolver does: `node --require ./resolve.cjs`.
const dns = require('node:dns')

const { lookup } = dns
dns.lookup = (name, ...rest) => lookup.call(dns, name.endsWith('.localhost') ? 'localhost' : name, ...rest)
