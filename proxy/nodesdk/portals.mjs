// Two portals at once in one process, each with a client of its own. nodesdk_test.go
// runs this script. In the fake HubSpot, the objects of both portals have the same ids,
// so a request with the wrong credential finds the wrong object.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from '@hubspot/api-client'

const { HUB, PORTALS } = process.env

test('no object is ever found in the other portal, while tokens expire', async () => {
  await Promise.all(JSON.parse(PORTALS).map(async ({ portal, base, token }) => {
    const { basicApi } = new Client({ accessToken: token, basePath: base }).crm.contacts
    for (let round = 0; round < 5; round++) {
      const owners = Array.from({ length: 10 }, (_, i) => `${portal}-${round}-${i}`)
      const [, ...created] = await Promise.all([
        fetch(`${HUB}/fake/expire/${portal}`, { method: 'POST' }),
        ...owners.map((owner) => basicApi.create({ properties: { owner }, associations: [] })),
      ])
      const read = await Promise.all(created.map(({ id }) => basicApi.getById(id, ['owner'])))
      assert.deepEqual(read.map((contact) => contact.properties.owner), owners)
    }
  }))
})
