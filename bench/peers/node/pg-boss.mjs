import { PgBoss } from 'pg-boss';
import { databaseUrl, dueAt, enqueue, post, ready } from './common.mjs';

const queue = 'send';
const isWorker = process.argv[2] === 'worker';
const boss = new PgBoss({ connectionString: databaseUrl, max: 10, ...(isWorker ? {} : { supervise: false, schedule: false }) });
boss.on('error', console.error);
await boss.start();
switch (process.argv[2]) {
  case 'setup':
    if (!(await boss.getQueue(queue))) await boss.createQueue(queue, { retryLimit: 5 });
    await boss.stop();
    process.exit(0);
  case 'enqueue':
    await enqueue((payloads) => boss.insert(queue, payloads.map((data) => ({ data, startAfter: dueAt(data) }))));
    process.exit(0);
  default: {
    const options = { batchSize: 1_000, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true, localConcurrency: 2 };
    await boss.work(queue, options, (jobs) => Promise.all(jobs.map((job) => post(job.data))));
    process.on('SIGTERM', () => process.exit(0));
    ready();
  }
}
