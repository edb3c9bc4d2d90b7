"""Celery on the bench's work: a worker runs `celery -A tasks worker`; `python tasks.py enqueue N T0 STEP AHEAD` hands
over (all in microseconds)."""

import datetime
import json
import os
import sys
import time

from celery import Celery
from celery.signals import worker_ready

app = Celery("tasks", broker=os.environ["BENCH_BROKER_URL"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="celery",
    task_default_queue_type="quorum",
    task_default_delivery_mode=2,
    worker_detect_quorum_queues=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_pool_limit=10,
    broker_heartbeat=0,
    broker_transport_options={"confirm_publish": True},
)
http = None


@app.task(name="send")
def send(payload):
    global http
    if http is None:
        import urllib3

        http = urllib3.PoolManager(maxsize=128, block=False)
    headers = {"content-type": "application/json"}
    answer = http.request("POST", os.environ["BENCH_SINK_URL"], body=json.dumps(payload), headers=headers)
    assert answer.status == 200


@worker_ready.connect
def say_ready(**_):
    sys.__stdout__.write("READY\n")
    sys.__stdout__.flush()


def enqueue(count, t0, step, ahead):
    with app.producer_pool.acquire(block=True) as producer:
        for i in range(count):
            due = t0 + i * step
            if ahead > 0:
                time.sleep(max(0, (due - ahead) / 1e6 - time.time()))
            eta = datetime.datetime.fromtimestamp(due / 1e6, datetime.timezone.utc)
            send.apply_async(({"id": i, "due": due, "pad": "x" * 256},), eta=eta, producer=producer)


if __name__ == "__main__" and sys.argv[1] == "enqueue":
    enqueue(*map(int, sys.argv[2:]))
