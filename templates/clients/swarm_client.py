"""A client of a swarm queue on a NATS server.

A program that works on tickets, without anything of swarm but this file and the package nats-py:

    import asyncio
    from swarm_client import SwarmClient

    async def main():
        async with SwarmClient("nats://127.0.0.1:4222", "project", worker="bot-1", capabilities=["python"]) as swarm:
            await swarm.publish_task("fix-1", "Fix it", "Find the cause and mend it.", priority="high")
            async for task in swarm.watch_tasks():
                lease = await swarm.claim_task(task["task_id"])
                if lease:
                    await swarm.complete_task(lease, {"answer": 42})

    asyncio.run(main())

Tickets that are handed in wait on the server; everything else is answered by a coordinator of the project (`swarm up`,
`swarm run`) or by `swarm queue serve`. The messages are in `schemas/task*.json` of swarm.
"""

import asyncio
import json
import uuid

import nats
import nats.errors
import nats.js.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

__all__ = ["Lease", "NobodyAnswers", "Refused", "SwarmClient"]


class Refused(Exception):
    """The queue refused a request. `kind` is invalid, not_found, not_available, stale, illegal or unavailable."""

    def __init__(self, error):
        super().__init__(error["text"])
        self.kind, self.text, self.hint = error["kind"], error["text"], error.get("hint")


class NobodyAnswers(Exception):
    """No coordinator of the project answered in time, or the project has no queue on the server."""


class Lease:
    """A ticket that this worker holds until `lease_until`, unless it renews the lease."""

    def __init__(self, grant):
        self.task, self.task_id = grant["task"], grant["task"]["task_id"]
        self.fence, self.attempt, self.lease_until = grant["fence"], grant["attempt"], grant["lease_until"]


def _encoded(name):
    """A project's name or a ticket's id as a part of subjects."""
    plain = "-_"
    return "".join(
        chr(byte) if chr(byte) in plain or chr(byte).isascii() and chr(byte).isalnum() else f"={byte:02X}"
        for byte in name.encode()
    )


class SwarmClient:
    """The queue of one project, as one worker."""

    def __init__(self, url, project, worker=None, capabilities=(), timeout=10.0, **connection):
        """`project` is the name of the repository's folder, or `queue.project` of its configuration. `timeout` is the
        seconds that an answer may take; `connection` goes to `nats.connect` (user, password, token, tls, ...)."""
        self.url, self.worker = url, worker or f"python-{uuid.uuid4().hex[:8]}"
        self.prefix = f"swarm.{_encoded(project)}"
        self.capabilities, self.timeout, self.connection = list(capabilities), timeout, connection
        self._nats = self._stream = None

    async def __aenter__(self):
        await self.connect()
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def connect(self):
        """Connects; an `async with` does it."""
        self._nats = await nats.connect(self.url, **self.connection)
        self._stream = self._nats.jetstream()

    async def close(self):
        """Ends the connection. Leases go on until they are over."""
        await self._nats.close()

    async def publish_task(self, task_id, title, description="", blocked_by=(), priority="medium", key=None, **more):
        """Hands a ticket in. It is stored when this returns, whether anybody of swarm runs or not. With the same `key` it is
        one ticket however often it is handed in. `priority` is critical, high, medium, low or 1 to 10; `more` are other keys
        of `schemas/task_submission.json`, such as `capabilities`, `agent`, `scope` or `checks`."""
        ticket = {"task_id": task_id, "title": title, "blocked_by": list(blocked_by), "priority": priority, **more}
        if description:
            ticket["description"] = description
        if key:
            ticket["key"] = key
        try:
            subject = f"{self.prefix}.tasks.submitted"
            await self._stream.publish(subject, json.dumps(ticket).encode(), timeout=self.timeout)
        except nats.js.errors.NoStreamResponseError as error:
            raise NobodyAnswers(f"there is no queue below `{self.prefix}` on this server") from error

    async def watch_tasks(self, replay=False):
        """The tickets that can be claimed: first those that are there, then each as it becomes available, without an end. A
        ticket may come more than once, and somebody else may be faster. With `replay` also those of the history come."""
        policy = DeliverPolicy.ALL if replay else DeliverPolicy.NEW
        subject = f"{self.prefix}.tasks.available"
        messages = await self._stream.subscribe(
            subject, ordered_consumer=True, config=ConsumerConfig(deliver_policy=policy)
        )
        try:
            for task in (await self.get_all_tasks())["available"]:
                yield task
            while True:
                try:
                    message = await messages.next_msg(timeout=60)
                except (nats.errors.TimeoutError, asyncio.TimeoutError):
                    continue
                yield json.loads(message.data)
        finally:
            await messages.unsubscribe()

    async def claim_task(self, task_id=None, lease=None):
        """A lease on that ticket, or on the best one that is there; None where somebody else has it or nothing is there.
        `lease` is seconds or a text such as `5m`."""
        ask = {"task_id": task_id, "worker": self.worker, "capabilities": self.capabilities, "lease": lease}
        try:
            return Lease(await self._ask("claimed", ask))
        except Refused as refused:
            if refused.kind == "not_available":
                return None
            raise

    async def renew(self, held, lease=None):
        """Prolongs a lease. Raises Refused (stale) when it is lost: then stop, somebody else may have the ticket."""
        answer = await self._ask("renewed", {**_proof(held), "lease": lease})
        held.lease_until = answer["lease_until"]

    async def complete_task(self, held, result=None, outcome="done"):
        """Says that the work is done, and what it came to (any JSON). With the outcome `review` somebody judges it first. To
        say it again changes nothing."""
        return await self._ask("completed", {**_proof(held), "result": result, "outcome": outcome})

    async def fail_task(self, held, error, retry_in=None):
        """Says that the attempt failed. Where attempts are left it is queued again after `retry_in`."""
        return await self._ask("failed", {**_proof(held), "error": error, "retry_in": retry_in})

    async def release_task(self, held):
        """Gives a ticket back as if it had not been claimed."""
        return await self._ask("released", _proof(held))

    async def get_task_status(self, task_id):
        """Everything about a ticket: `status`, `owner`, `started_at`, `result` and more."""
        return await self._ask("status", {"task_id": task_id})

    async def get_all_tasks(self, limit=100):
        """Lists of tickets: `available`, `in_progress`, `completed`, `blocked`, `failed`, `cancelled`."""
        return await self._ask("list", {"limit": limit})

    async def _ask(self, word, message):
        """Asks whoever answers for the project."""
        try:
            payload = json.dumps(message).encode()
            answer = await self._nats.request(f"{self.prefix}.tasks.{word}", payload, timeout=self.timeout)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError, asyncio.TimeoutError) as error:
            text = f"nobody answers below `{self.prefix}`: does a coordinator run (swarm up, swarm queue serve)?"
            raise NobodyAnswers(text) from error
        answer = json.loads(answer.data)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer


def _proof(held):
    """What proves a lease."""
    return {"task_id": held.task_id, "fence": held.fence}
