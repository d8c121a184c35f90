// HubSpot's unmodified MCP server, through the proxy to the fake HubSpot.
// clients_test.go runs this script, which calls the server's tools as an MCP client.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'

const { HUB, BASE, TOKEN, PORTAL, ...environment } = process.env

const client = new Client({ name: 'test', version: '1' })
await client.connect(new StdioClientTransport({
  command: process.execPath,
  args: ['--import', './proxied.mjs', 'node_modules/@hubspot/mcp-server/dist/index.js'],
  env: { ...environment, PRIVATE_APP_ACCESS_TOKEN: TOKEN, ...(BASE && { BASE_URL_OVERRIDE: BASE }) },
  stderr: 'ignore',
}))
after(() => client.close())

// call returns the text of a tool's answer.
async function call(name, args) {
  const { content, isError } = await client.callTool({ name, arguments: args })
  assert.ok(!isError, `${name}: ${content[0].text}`)
  return content.map(({ text }) => text).join('\n')
}

async function expireTokens() {
  assert.equal((await fetch(`${HUB}/fake/expire/${PORTAL}`, { method: 'POST' })).status, 200)
}

test('objects are created, listed and found while tokens expire', async () => {
  const inputs = ['a', 'b'].map((name) => ({ properties: { email: `${name}@example.com` } }))
  await call('hubspot-batch-create-objects', { objectType: 'contacts', inputs })
  await expireTokens()
  assert.match(await call('hubspot-list-objects', { objectType: 'contacts', properties: ['email'] }), /a@example\.com[^]*b@example\.com/)
  await expireTokens()
  const filterGroups = [{ filters: [{ propertyName: 'email', operator: 'EQ', value: 'b@example.com' }] }]
  const found = await call('hubspot-search-objects', { objectType: 'contacts', properties: ['email'], filterGroups })
  assert.match(found, /b@example\.com/)
  assert.doesNotMatch(found, /a@example\.com/)
})

test('the tool that a model has to call first works, which sends the token in a body', async () => {
  const about = await call('hubspot-get-user-details', {})
  assert.match(about, new RegExp(`"hubId": ${PORTAL}\\b`))
  assert.match(about, new RegExp(`"portalId": ${PORTAL}\\b`))
})

test("HubSpot's error reaches the model", async () => {
  const { content } = await client.callTool({ name: 'hubspot-batch-read-objects', arguments: { objectType: 'unknown-objects', inputs: [{ id: '1' }], properties: [] } })
  assert.ok(content[0].text)
})
