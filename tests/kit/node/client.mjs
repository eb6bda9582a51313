// What node-postgres does with a connection, one line of JSON a step. Settings come from PGHOST and its kin.
import pg from 'pg'
import copy from 'pg-copy-streams'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'

const say = (step, value) => console.log(JSON.stringify({ step, value }))
const client = new pg.Client()
await client.connect()

say('simple', (await client.query('select 1 + 1 as x')).rows)
const typed = 'select $1::int as a, $2::text as b, $3::jsonb as j, $4::bytea as d'
say('typed', (await client.query(typed, [7, 'ü', { k: 1 }, Buffer.from([0, 255])])).rows)
for (let i = 0; i < 3; i++) {
  const named = { name: 'doubled', text: 'select $1::int * 2 as x', values: [i] }
  say('named', (await client.query(named)).rows)
}
say('binary', (await client.query({ text: 'select 42::int4 as x', binary: true })).rows)
say('array mode', (await client.query({ text: 'select id, name from people order by id limit 3', rowMode: 'array' })).rows)
await client.query('select 1 / 0').catch((e) => say('error', [e.code, e.message]))
say('after the error', (await client.query('select 1 as x')).rows)

await client.query('create temp table copied (a int, b text)')
const lines = Array.from({ length: 1000 }, (_, i) => `${i}\tx${i}\n`)
await pipeline(Readable.from(lines), client.query(copy.from('copy copied from stdin')))
let out = ''
for await (const piece of client.query(copy.to('copy copied to stdout'))) out += piece
say('copy', [out.split('\n').length, out.slice(-12)])

let rows = 0
for await (const row of client.query(new QueryStream('select * from generate_series(1, 5000)', [], { batchSize: 100 }))) rows += row.generate_series
say('streamed', rows)
const cursor = client.query(new Cursor('select * from generate_series(1, 100)'))
say('cursor', (await cursor.read(10)).length)
await cursor.close()

const heard = new Promise((resolve) => client.on('notification', (n) => resolve([n.channel, n.payload])))
await client.query('listen greetings')
await client.query("notify greetings, 'hello'")
say('notified', await heard)

await client.query('begin')
await client.query("insert into people values (9001, 'Node', null, null)")
say('in a transaction', (await client.query('select name from people where id = 9001')).rows)
await client.query('rollback')
say('rolled back', (await client.query('select count(*)::int as n from people where id = 9001')).rows)
await client.end()
