// HubSpot's unmodified official SDK, through the proxy to the fake HubSpot.
// nodesdk_test.go starts both, runs this script, and checks what HubSpot received. This
// script checks what the SDK's user gets.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { Client } from '@hubspot/api-client'
import { HttpsProxyAgent } from 'https-proxy-agent'
import './proxied.mjs'

const { HUB, BASE, TOKEN, PORTAL, KIND, APP_ID, APP_SECRET, CODE, REDIRECT_URL, KEY_NEEDED, HTTPS_PROXY } = process.env

// The number of tries of an SDK method, including the first. All clients have the same
// number, because the SDK keeps one for the whole process.
const numberOfApiCallRetries = 2

// Behind an HTTPS proxy, the SDK's API methods need an agent. apiRequest needs none,
// because it uses Node's fetch.
const how = HTTPS_PROXY ? { httpAgent: new HttpsProxyAgent(HTTPS_PROXY), numberOfApiCallRetries } : { basePath: BASE, numberOfApiCallRetries }

const hubspot = new Client({ accessToken: TOKEN, ...how })
const { contacts, companies, associations } = hubspot.crm

// expireTokens calls the fake HubSpot directly, not through the proxy.
async function expireTokens() {
  assert.equal((await fetch(`${HUB}/fake/expire/${PORTAL}`, { method: 'POST' })).status, 200)
}

// failNext makes HubSpot answer the portal's next n requests with a status.
async function failNext(n, code) {
  assert.equal((await hubspot.apiRequest({ method: 'POST', path: '/fake/fail-next', qs: { n, code } })).status, 200)
}

const email = (name) => `${name}@${PORTAL}.example.com`

test('an object is created, read, changed and archived', async () => {
  const created = await contacts.basicApi.create({ properties: { email: email('ann'), firstname: 'Ann' }, associations: [] })
  assert.ok(created.createdAt instanceof Date)

  await expireTokens()
  const read = await contacts.basicApi.getById(created.id, ['email'])
  assert.equal(read.properties.email, email('ann'))
  assert.ok(!('firstname' in read.properties), 'a property that was not asked for')

  await expireTokens()
  const changed = await contacts.basicApi.update(created.id, { properties: { firstname: 'Änne' } })
  assert.equal(changed.properties.firstname, 'Änne')
  assert.equal(changed.properties.email, email('ann'))

  await expireTokens()
  const archived = await contacts.basicApi.archiveWithHttpInfo(created.id)
  assert.equal(archived.httpStatusCode, 204)
  assert.equal(await archived.body.text(), '')
})

test("an error of HubSpot's comes out as the SDK's exception, with its body", async () => {
  await assert.rejects(contacts.basicApi.getById('404404'), (error) => {
    assert.equal(error.code, 404)
    assert.equal(error.body.message, 'resource not found')
    assert.equal(error.body.category, 'OBJECT_NOT_FOUND')
    assert.equal(error.headers['x-hubspot-correlation-id'], error.body.correlationId)
    assert.ok(!error.headers['x-hubspot-auth-proxy-error'], "the error is not one of the proxy's own")
    return true
  })
})

test('pages follow each other while tokens expire between them', async () => {
  const names = Array.from({ length: 25 }, (_, i) => email(`page-${i}`))
  const batch = await companies.batchApi.create({ inputs: names.map((name) => ({ properties: { name }, associations: [] })) })
  assert.equal(batch.status, 'COMPLETE')

  const found = []
  let after
  do {
    await expireTokens()
    const page = await companies.basicApi.getPage(10, after, ['name'])
    found.push(...page.results.map((company) => company.properties.name))
    after = page.paging?.next?.after
  } while (after)
  assert.deepEqual(found, names)

  const all = await companies.getAll(7)
  assert.deepEqual(all.map((company) => company.properties.name), names)
})

test('a search finds, page by page', async () => {
  const inputs = ['x', 'y', 'z'].map((name) => ({ properties: { email: email(name), lifecyclestage: 'lead' }, associations: [] }))
  await contacts.batchApi.create({ inputs })
  const wanted = {
    filterGroups: [{ filters: [{ propertyName: 'lifecyclestage', operator: 'EQ', value: 'lead' }] }],
    properties: ['email'],
    limit: 2,
  }
  const first = await contacts.searchApi.doSearch(wanted)
  assert.equal(first.total, 3)
  await expireTokens()
  const second = await contacts.searchApi.doSearch({ ...wanted, after: first.paging.next.after })
  assert.deepEqual([...first.results, ...second.results].map((contact) => contact.properties.email), inputs.map((input) => input.properties.email))
  assert.equal(second.paging, undefined)
})

test('batches are created, read, changed and archived', async () => {
  const created = await contacts.batchApi.create({ inputs: ['a', 'b'].map((name) => ({ properties: { email: email(name) }, associations: [] })) })
  const ids = created.results.map(({ id }) => ({ id }))
  assert.equal(ids.length, 2)

  await expireTokens()
  const changed = await contacts.batchApi.update({ inputs: ids.map(({ id }) => ({ id, properties: { city: 'Zürich' } })) })
  assert.equal(changed.status, 'COMPLETE')

  const read = await contacts.batchApi.read({ inputs: ids, properties: ['email', 'city'], propertiesWithHistory: [] })
  assert.deepEqual(read.results.map((contact) => contact.properties.email), [email('a'), email('b')])
  assert.ok(read.results.every((contact) => contact.properties.city === 'Zürich'))

  await contacts.batchApi.archive({ inputs: ids })
  const gone = await contacts.batchApi.read({ inputs: ids, properties: [], propertiesWithHistory: [] })
  assert.deepEqual(gone.results, [])
})

test('objects are associated', async () => {
  const contact = await contacts.basicApi.create({ properties: { email: email('assoc') }, associations: [] })
  const [one, two] = await Promise.all(['one', 'two'].map((name) => companies.basicApi.create({ properties: { name }, associations: [] })))
  const { basicApi } = associations.v4

  await expireTokens()
  const byDefault = await basicApi.createDefault('contacts', contact.id, 'companies', one.id)
  assert.equal(byDefault.results[0]._from.id, contact.id)
  assert.equal(byDefault.results[0].to.id, one.id)
  const labelled = await basicApi.create('contacts', contact.id, 'companies', two.id, [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 279 }])
  assert.equal(labelled.toObjectId, two.id)

  const toIDs = async () => (await basicApi.getPage('contacts', contact.id, 'companies')).results.map((result) => result.toObjectId)
  assert.deepEqual((await toIDs()).sort(), [one.id, two.id].sort())
  await basicApi.archive('contacts', contact.id, 'companies', one.id)
  assert.deepEqual(await toIDs(), [two.id])
})

// upload uploads the bytes and returns the file as HubSpot stores it.
async function upload(bytes) {
  const file = await hubspot.files.filesApi.upload(
    { data: bytes, name: 'bytes.bin' }, undefined, '/from the sdk', 'renamed.bin', undefined, JSON.stringify({ access: 'PRIVATE' }))
  return hubspot.files.filesApi.getById(file.id)
}

function wantUploaded(file, bytes) {
  assert.equal(file.fileMd5, createHash('md5').update(bytes).digest('hex'))
  assert.equal(file.size, bytes.length)
  assert.equal(file.path, '/from the sdk/renamed.bin')
}

test('an upload with an expired token arrives whole', async () => {
  const bytes = randomBytes(500_000)
  await expireTokens()
  wantUploaded(await upload(bytes), bytes)
})

test('an upload too long to be kept gets the 401, and arrives whole the next time', async () => {
  const bytes = randomBytes(3 << 20)
  await expireTokens()
  if (KIND === 'oauth') {
    await assert.rejects(upload(bytes), (error) => {
      assert.equal(error.code, 401)
      assert.equal(error.body.category, 'EXPIRED_AUTHENTICATION')
      return true
    })
  }
  await contacts.basicApi.getPage(1) // waits for the renewal, as an upload of this size does not
  wantUploaded(await upload(bytes), bytes)
})

test("HubSpot's 429 reaches the SDK unchanged, and the SDK waits and tries again", async () => {
  await failNext(1, 429)
  const raw = await hubspot.apiRequest({ path: '/crm/v3/objects/contacts' }) // does not try again
  assert.equal(raw.status, 429)
  const body = await raw.json()
  assert.equal(body.message, 'You have reached your secondly limit.')
  assert.equal(body.errorType, 'RATE_LIMIT')

  await failNext(1, 429)
  const begin = performance.now()
  await contacts.searchApi.doSearch({ limit: 1 })
  assert.ok(performance.now() - begin > 900, 'the SDK waits a second')
})

test("HubSpot's 502 reaches the SDK, and the SDK tries as often as configured", async () => {
  await failNext(numberOfApiCallRetries - 1, 502)
  await contacts.basicApi.getPage(1)
  await failNext(numberOfApiCallRetries, 502)
  await assert.rejects(contacts.basicApi.getPage(1), { code: 502 })
})

test("the SDK's own OAuth calls carry their own credentials", async () => {
  const { oauth } = new Client(how) // has no token yet

  const byCode = await oauth.tokensApi.create('authorization_code', CODE, REDIRECT_URL, APP_ID, APP_SECRET)
  assert.equal(byCode.tokenType, 'bearer')
  const refreshed = await oauth.tokensApi.create('refresh_token', undefined, undefined, APP_ID, APP_SECRET, byCode.refreshToken)
  assert.notEqual(refreshed.accessToken, byCode.accessToken)
  await assert.rejects(oauth.tokensApi.create('refresh_token', undefined, undefined, APP_ID, APP_SECRET, 'na1-unknown'), (error) => {
    assert.equal(error.code, 400)
    assert.equal(error.body.status, 'BAD_REFRESH_TOKEN')
    return true
  })

  const about = [() => oauth.accessTokensApi.get(refreshed.accessToken), () => oauth.refreshTokensApi.get(refreshed.refreshToken)]
  for (const call of about) {
    if (KEY_NEEDED) { // the SDK sends no credential with these
      await assert.rejects(call(), (error) => error.code === 401 && error.body.category === 'CLIENT_UNAUTHENTICATED')
    } else {
      assert.equal((await call()).hubId, 900)
    }
  }
})

test('apiRequest sends what it is given', async () => {
  await expireTokens()
  const body = { text: 'ä'.repeat(1000) }
  const response = await hubspot.apiRequest({ method: 'PUT', path: '/any/v1/a%2Fb', qs: { q: 'a b&c', archived: false }, body, headers: { 'X-Own': 'yes' } })
  const echo = await response.json()
  assert.equal(echo.Method, 'PUT')
  assert.equal(echo.Target.replace(/&hapikey=[^&]*$/, ''), '/any/v1/a%2Fb?q=a+b%26c&archived=false')
  assert.equal(echo.BodySHA256, createHash('sha256').update(JSON.stringify(body)).digest('hex'))
  assert.equal(echo.Header['X-Own'][0], 'yes')
})

test('a developer key, which the SDK sends in the query, is the client key as well', async () => {
  const developer = new Client({ developerApiKey: TOKEN, ...how })
  const subscriptions = await developer.webhooks.subscriptionsApi.getAll(7654321)
  assert.equal(subscriptions.results[0].eventType, 'contact.propertyChange')
  const echo = await (await developer.apiRequest({ path: '/any', qs: { a: 1 } })).json()
  assert.equal(echo.Portal, PORTAL)
})
