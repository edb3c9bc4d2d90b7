import { Queue, Worker } from 'bullmq';
import { enqueue, post, ready } from './common.mjs';

const connection = { host: '127.0.0.1', port: Number(process.env.BENCH_REDIS_PORT), maxRetriesPerRequest: null };
switch (process.argv[2]) {
  case 'setup':
    process.exit(0);
  case 'enqueue': {
    const queue = new Queue('send', { connection });
    await enqueue((payloads) => {
      const now = Date.now();
      const options = (due) => ({ delay: Math.max(0, Math.ceil(due / 1_000) - now), timestamp: now, attempts: 5 });
      return queue.addBulk(payloads.map((data) => ({ name: 'send', data, opts: options(data.due) })));
    });
    await queue.close();
    process.exit(0);
  }
  default: {
    const worker = new Worker('send', (job) => post(job.data), { connection, concurrency: 100 });
    worker.on('error', console.error);
    await worker.waitUntilReady();
    process.on('SIGTERM', () => process.exit(0));
    ready();
  }
}
