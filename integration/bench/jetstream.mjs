// NATS JetStream: `publish LEAF`, `serve LEAF`, `follow HUB`, `check HUB`, each with the address of a server. The stream is on the
// leaf and mirrored at the hub; the hub's client verifies what the mirror has stored.

import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { AtOnce, Verifier, asked, now, paced, record, say } from './records.mjs'

const [role, servers] = process.argv.slice(2)
const records = Number(process.env.RECORDS)
/// As many as Lotline takes into one commit.
const IN_FLIGHT = 256

const connection = await connect({ servers })
const js = jetstream(connection, { timeout: 30_000 })
const manager = await jetstreamManager(connection, { timeout: 30_000 })

async function publish () {
  await manager.streams.add({ name: 'F', subjects: ['f'], storage: 'file' })
  const start = now()
  const waiting = new AtOnce(IN_FLIGHT)
  for (let at = 0; at < records; at++) await waiting.start(record(at).then((bytes) => js.publish('f', bytes)))
  await waiting.done()
  say({ seconds: now() - start })
}

async function serve () {
  const { value } = await asked.next()
  const made = await Promise.all(Array.from({ length: Number(value) }, (_, at) => record(records + at)))
  say({ began: await paced(made.length, (at) => js.publish('f', made[at])) })
}

/// Every message of the mirror, from the first on.
async function messages () {
  const { name } = await manager.consumers.add('M', { ack_policy: AckPolicy.None, deliver_policy: DeliverPolicy.All, mem_storage: true })
  const consumer = await js.consumers.get('M', name)
  return (await consumer.consume({ max_messages: 512 }))[Symbol.asyncIterator]()
}

async function take (from, count) {
  const verifier = new Verifier()
  for (let at = 0; at < count; at++) await verifier.take((await from.next()).value.data)
  return verifier.done()
}

async function follow () {
  const start = now()
  await manager.streams.add({ name: 'M', storage: 'file', mirror: { name: 'F', domain: 'leaf' } })
  const from = await messages()
  await take(from, records)
  say({ seconds: now() - start })
  const { value } = await asked.next()
  const times = []
  const one = new Verifier()
  say({ ready: true })
  for (let at = 0; at < Number(value); at++) {
    await one.take((await from.next()).value.data)
    await one.done()
    times.push(now())
  }
  say({ times })
  await asked.next()
}

/// Everything the mirror has, after the hub was killed.
async function check () {
  say({ valid: await take(await messages(), records) })
}

await { publish, serve, follow, check }[role]()
process.exit(0)
