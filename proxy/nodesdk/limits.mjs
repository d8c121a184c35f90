// HubSpot's unmodified official SDK, through the proxy with RATE_LIMIT_WAIT.
// limits_test.go starts it, with limits at which the proxy refuses calls of its own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from '@hubspot/api-client'

const { BURST, SEARCH, DAILY, TOKEN_OF_DAILY, TOKEN } = process.env
const numberOfApiCallRetries = 6

// The SDK prints how many milliseconds it waits before it tries again: a second for a
// search, ten for another call. The ten last one second here.
let waits = []
console.error = (text) => waits.push(Number(/will retry \[\d+\] time in \[(\d+)\] ms/.exec(text)[1]))
const { setTimeout: wait } = globalThis
globalThis.setTimeout = (resolve, ms, ...rest) => wait(resolve, ms < 10_000 ? ms : ms / 10, ...rest)

const contactsOf = (basePath, accessToken) => new Client({ basePath, accessToken, numberOfApiCallRetries }).crm.contacts

test('the SDK tries a search again a second after it was refused', async () => {
  waits = []
  const { searchApi } = contactsOf(SEARCH, TOKEN)
  await Promise.all(Array.from({ length: 7 }, () => searchApi.doSearch({ limit: 1 })))
  assert.ok(waits.length > 0 && waits.every((ms) => ms === 1000), `it has waited ${waits}`)
})

test('the SDK tries a call again ten seconds after it was refused', async () => {
  waits = []
  const { basicApi } = contactsOf(BURST, TOKEN)
  await Promise.all(Array.from({ length: 6 }, () => basicApi.getPage(1)))
  assert.ok(waits.length > 0 && waits.every((ms) => ms === 10_000), `it has waited ${waits}`)
})

test("the SDK does not try again when the client's calls of the day are used up", async () => {
  waits = []
  const { basicApi } = contactsOf(DAILY, TOKEN_OF_DAILY)
  await basicApi.getPage(1)
  await assert.rejects(basicApi.getPage(1), (error) => {
    assert.equal(error.code, 429)
    assert.equal(error.body.policyName, 'DAILY')
    assert.equal(error.headers['x-should-retry'], 'false') // for the newer SDKs
    return true
  })
  assert.deepEqual(waits, [])
})
