// The unmodified client `hubspot` from npm, through the proxy to the fake HubSpot.
// clients_test.go runs this script. The client reads HTTPS_PROXY by itself.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Hubspot from 'hubspot'

const { HUB, BASE, TOKEN, PORTAL, APP_ID, APP_SECRET, REFRESH_TOKEN } = process.env

const options = { ...(BASE && { baseUrl: BASE }), limiter: { minTime: 0 } }
const byToken = new Hubspot({ ...options, accessToken: TOKEN })
const byKey = new Hubspot({ ...options, apiKey: TOKEN, checkLimit: false })
const byOAuth1 = new Hubspot({ ...options, accessToken: TOKEN, useOAuth1: true })

async function expireTokens() {
  assert.equal((await fetch(`${HUB}/fake/expire/${PORTAL}`, { method: 'POST' })).status, 200)
}

test('an object is created, read and archived while tokens expire', async () => {
  const { id } = await byToken.apiRequest({ method: 'POST', path: '/crm/v3/objects/contacts', body: { properties: { email: 'a@example.com' } } })
  await expireTokens()
  const read = await byToken.apiRequest({ path: `/crm/v3/objects/contacts/${id}`, qs: { properties: 'email' } })
  assert.equal(read.properties.email, 'a@example.com')
  await expireTokens()
  await byToken.apiRequest({ method: 'DELETE', path: `/crm/v3/objects/contacts/${id}` })
  await assert.rejects(byToken.apiRequest({ path: `/crm/v3/objects/contacts/${id}` }), { statusCode: 404 })
})

test('the client key works in each place where the client puts it', async () => {
  for (const client of [byToken, byKey, byOAuth1]) {
    const echo = await client.contacts.getByEmail('b@example.com')
    assert.equal(echo.Portal, PORTAL)
    assert.equal(echo.Target.replace(/[?&]hapikey=[^&]*$/, ''), '/contacts/v1/contact/email/b@example.com/profile')
    const batch = await client.contacts.getByEmailBatch(['a@example.com', 'b@example.com'])
    assert.match(batch.Target, /^\/contacts\/v1\/contact\/emails\/batch\?email=a%40example.com&email=b%40example.com/)
    assert.equal((await client.companies.create({ properties: [{ name: 'name', value: 'Ä' }] })).Method, 'POST')
  }
})

test("the client's own OAuth call carries its own credentials", async () => {
  const client = new Hubspot({ ...options, clientId: APP_ID, clientSecret: APP_SECRET, redirectUri: 'https://app.example.com/callback', refreshToken: REFRESH_TOKEN })
  const { access_token: token } = await client.refreshAccessToken()
  assert.ok(token)
})
