// The records that all programs here carry: the same sizes as Lotline's, the same bytes in every run, signed one by one.
//
// A record is [signature 64][signed bytes][unsigned bytes]: what Lotline signs is the core, beside which the disclosures lie.

import { createCipheriv, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { createInterface } from 'node:readline'

const SEED = Buffer.alloc(32, 7)
const privateKey = createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), SEED]), format: 'der', type: 'pkcs8' })
const publicKey = createPublicKey(privateKey)

const core = Number(process.env.RECORD_CORE)
const rest = Number(process.env.RECORD_REST)
const zeros = Buffer.alloc(core - 64 + rest)

/// The bytes of a record that are not its signature: a key stream, so that nothing can be compressed.
function content (at) {
  const iv = Buffer.alloc(16)
  iv.writeUInt32BE(at)
  return createCipheriv('aes-128-ctr', SEED.subarray(0, 16), iv).update(zeros)
}

/// A signed record. Signing is done by the threads of the runtime, as many at once as are asked for.
export function record (at) {
  const bytes = content(at)
  return new Promise((resolve, reject) => sign(null, bytes.subarray(0, core - 64), privateKey, (error, signature) => {
    error ? reject(error) : resolve(Buffer.concat([signature, bytes]))
  }))
}

function holds (bytes) {
  return new Promise((resolve, reject) => verify(null, bytes.subarray(64, core), publicKey, bytes.subarray(0, 64), (error, valid) => {
    error ? reject(error) : resolve(valid)
  }))
}

/// Lets a bounded number of things be under way at once.
export class AtOnce {
  #limit
  #under = 0
  #fault = null
  #wake = () => {}

  constructor (limit) {
    this.#limit = limit
  }

  /// Takes one more, and waits while there are too many.
  async start (one) {
    this.#under++
    one.catch((error) => { this.#fault = error }).finally(() => {
      this.#under--
      this.#wake()
    })
    await this.#fewer(this.#limit)
  }

  async done () {
    await this.#fewer(1)
  }

  async #fewer (limit) {
    while (this.#under >= limit) await new Promise((resolve) => { this.#wake = resolve })
    if (this.#fault) throw this.#fault
  }
}

/// Takes records as they come, verifies a bounded number at a time, and counts those that hold.
export class Verifier {
  #valid = 0
  #verifying = new AtOnce(64)

  take (bytes) {
    if (bytes === null || bytes.length !== core + rest) throw new Error('a record is missing or cut')
    return this.#verifying.start(holds(bytes).then((valid) => {
      if (!valid) throw new Error('a signature does not hold')
      this.#valid++
    }))
  }

  /// How many held, when all were looked at.
  async done () {
    await this.#verifying.done()
    return this.#valid
  }
}

export const now = () => Number(process.hrtime.bigint()) / 1e9

/// A line for the program that started us.
export function say (answer) {
  process.stdout.write(JSON.stringify(answer) + '\n')
}

/// What it asks for, one line each.
export const asked = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/// Calls something a hundred times a second; returns when each call began.
export async function paced (count, call) {
  const began = []
  const start = now()
  for (let at = 0; at < count; at++) {
    const wait = start + at / 100 - now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait * 1000))
    began.push(now())
    await call(at)
  }
  return began
}
