// Runs what each line of standard input says, and answers with a line that says what node-postgres choked on.
import pg from 'pg'
import copy from 'pg-copy-streams'
import { createInterface } from 'node:readline'

const client = new pg.Client()
client.on('error', () => {})
await client.connect()

async function step (text) {
  if (!text.startsWith('copy ')) return client.query(text)
  for await (const _ of client.query(copy.to(text)));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { steps, commit } = JSON.parse(line)
  let choked = ''
  try {
    if (!commit) await client.query('begin')
    for (const text of steps) await step(text)
  } catch (error) {
    if (!error.code) choked = String(error.name)
  }
  if (!commit) await client.query('rollback').catch(() => {})
  console.log(JSON.stringify({ choked }))
}
