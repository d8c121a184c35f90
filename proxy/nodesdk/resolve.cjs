// Stands in for a resolver that knows names below localhost (RFC 6761 section
// 6.3), which not every system has: run by `node --require ./resolve.cjs`.
const dns = require('node:dns')

const { lookup } = dns
dns.lookup = (name, ...rest) => lookup.call(dns, name.endsWith('.localhost') ? 'localhost' : name, ...rest)
