import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { databaseUrl, dueAt, enqueue, post, ready } from './common.mjs';

const connectionString = databaseUrl;
switch (process.argv[2]) {
  case 'setup': {
    const utils = await makeWorkerUtils({ connectionString });
    await utils.migrate();
    await utils.release();
    break;
  }
  case 'enqueue': {
    const utils = await makeWorkerUtils({ connectionString, maxPoolSize: 2 });
    await enqueue((payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: 'send', payload, runAt: dueAt(payload) }))));
    await utils.release();
    process.exit(0);
  }
  default: {
    const worker = {
      connectionString, concurrentJobs: 48, maxPoolSize: 5, pollInterval: 100, localQueue: { size: 500, ttl: 300_000 },
      completeJobBatchDelay: 50, failJobBatchDelay: 50, useNodeTime: false, preparedStatements: true,
    };
    const logger = new Logger(() => (level, message) => { if (level === 'error') console.error(message); });
    await run({ preset: { worker }, taskList: { send: post }, noHandleSignals: false, logger });
    ready();
  }
}
