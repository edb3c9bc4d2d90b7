// What the node peers share: the request, the work, and its handing over.
import { Pool } from 'undici';

export const databaseUrl = process.env.BENCH_DATABASE_URL;

const sink = new URL(process.env.BENCH_SINK_URL ?? 'http://127.0.0.1:1');
const pool = new Pool(sink.origin, { connections: 64, pipelining: 1, keepAliveTimeout: 60_000 });
const headers = { 'content-type': 'application/json' };

export async function post(payload) {
  const answer = await pool.request({ path: sink.pathname, method: 'POST', headers, body: JSON.stringify(payload) });
  await answer.body.dump();
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
}

const pad = 'x'.repeat(256);

// Hands over N notifications, the first due at T0, each STEP after the one before, all in microseconds: in batches at
// once, or, with AHEAD, one by one, each so long before it is due.
export async function enqueue(add) {
  const [count, t0, step, ahead] = process.argv.slice(3).map(Number);
  const batch = ahead > 0 ? 1 : 1_000;
  let next = 0;
  const share = async () => {
    while (next < count) {
      const first = next;
      next += batch;
      if (ahead > 0) {
        const wait = (t0 + first * step - ahead) / 1_000 - Date.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      }
      const ids = Array.from({ length: Math.min(batch, count - first) }, (_, i) => first + i);
      await add(ids.map((id) => ({ id, due: t0 + id * step, pad })));
    }
  };
  await Promise.all([share(), share()]);
}

export const dueAt = (payload) => new Date(payload.due / 1_000);

export const ready = () => console.log('READY');
