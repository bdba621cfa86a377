// Hypercore: `publish DIR`, `serve DIR`, `follow DIR KEY PORT`, `check DIR KEY`; the number of records and whether it is tuned
// are in the environment. Its own signature is over the tree, once an append; the records' signatures come on top.

import Hypercore from 'hypercore'
import { connect, createServer } from 'node:net'
import { Verifier, asked, now, paced, record, say } from './records.mjs'

const [role, folder, key, port] = process.argv.slice(2)
const records = Number(process.env.RECORDS)
const tuned = process.env.TUNED === '1'
const BATCH = 64

// A range of blocks asked for at once; 16 to 512 by default.
const settings = tuned ? { inflightRange: [512, 512] } : {}
const core = new Hypercore(folder, key ? Buffer.from(key, 'hex') : null, settings)
await core.ready()

async function publish () {
  const start = now()
  if (tuned) {
    let next = Promise.all(Array.from({ length: Math.min(BATCH, records) }, (_, at) => record(at)))
    for (let from = 0; from < records; from += BATCH) {
      const batch = await next
      const after = Math.min(from + BATCH, records)
      // The next are signed while these are written.
      next = Promise.all(Array.from({ length: Math.min(BATCH, records - after) }, (_, at) => record(after + at)))
      await core.append(batch)
    }
  } else {
    for (let at = 0; at < records; at++) await core.append(await record(at))
  }
  const seconds = now() - start
  await core.close()
  say({ seconds })
}

async function serve () {
  const server = createServer((socket) => {
    const stream = core.replicate(false)
    stream.on('error', () => {})
    socket.on('error', () => {})
    socket.setNoDelay(true)
    socket.pipe(stream).pipe(socket)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  say({ port: server.address().port, key: core.key.toString('hex') })
  const { value } = await asked.next()
  const count = Number(value)
  const made = await Promise.all(Array.from({ length: count }, (_, at) => record(records + at)))
  say({ began: await paced(count, (at) => core.append(made[at])) })
  await asked.next()
}

/// Connects, fetches and verifies up to the number of records, then what comes singly.
async function follow () {
  const start = now()
  const socket = connect(Number(port), '127.0.0.1')
  socket.setNoDelay(true)
  socket.pipe(core.replicate(true)).pipe(socket)
  const range = core.download({ start: 0, end: records })
  await fetch(0, records)
  await range.done()
  // What it has in memory goes to files, with their sync.
  await core.state.storage.db.flush()
  say({ seconds: now() - start })
  const { value } = await asked.next()
  const times = []
  const one = new Verifier()
  say({ ready: true })
  for (let at = 0; at < Number(value); at++) {
    await one.take(await core.get(records + at))
    await one.done()
    times.push(now())
  }
  say({ times })
  await asked.next()
}

async function fetch (from, to) {
  const verifier = new Verifier()
  const ahead = []
  for (let at = from; at < to + 128; at++) {
    if (at < to) ahead.push(core.get(at))
    if (ahead.length > 128 || at >= to) {
      const next = ahead.shift()
      if (next) await verifier.take(await next)
    }
  }
  return verifier.done()
}

async function check () {
  const verifier = new Verifier()
  for (let at = 0; at < records; at++) await verifier.take(await core.get(at, { wait: false }))
  say({ valid: await verifier.done() })
}

await { publish, serve, follow, check }[role]()
process.exit(0)
