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

Tickets that are handed in wait on the server, and messages are kept there; everything else is answered by a coordinator of
the project (`swarm up`, `swarm run`) or by `swarm queue serve`. What is sent and answered is in `schemas/task*.json`,
`schemas/message.json` and `schemas/registration.json` of swarm.
"""

import asyncio
import collections
import datetime
import json
import uuid

import nats
import nats.errors
import nats.js.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

__all__ = ["CHANNELS", "Lease", "NobodyAnswers", "Refused", "SwarmClient"]


CHANNELS = ("coordination", "errors", "general", "results", "roadmap", "status")


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
        await self._publish("tasks.submitted", ticket)

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
        `lease` is seconds or a text such as `5m`. A claim whose answer is lost is made again under the same name, which is
        the same lease."""
        ask = {"task_id": task_id, "worker": self.worker, "capabilities": self.capabilities, "lease": lease}
        ask["request_id"] = str(uuid.uuid4())
        try:
            return Lease(await self._ask("claimed", ask, tries=3))
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

    async def register(self, role=None, **about):
        """Says on the channel `status` that this worker is there, what it offers, and whatever else is worth knowing; the
        message as it was sent. It is for whoever looks: tickets are claimed, and nobody assigns them."""
        body = {"event": "registered", "worker": self.worker, "capabilities": self.capabilities, "role": role}
        return await self._say("status", f"{self.worker} is there", {**body, "about": about})

    async def coordinate(self, text, body=None, channel="coordination", reply_to=None, key=None, wait=None):
        """Says something on a channel: `text` for people, `body` (any JSON) for programs; the message as it was sent.
        `reply_to` is the id of a message that this one answers. With the same `key` it is one message however often it is
        said within an hour. With `wait`, in seconds, the first answer to it instead; None where nobody answers in time."""
        if wait is None:
            return await self._say(channel, text, body, reply_to, key)
        answers = await self._nats.subscribe(self._channel(channel))
        try:
            await self._nats.flush()
            said = await self._say(channel, text, body, reply_to, key)
            return await asyncio.wait_for(_answer(answers, said["id"], channel), wait)
        except asyncio.TimeoutError:
            return None
        finally:
            await answers.unsubscribe()

    async def get_messages(self, channel="coordination", limit=100):
        """The last messages of a channel, oldest first. Whoever sent one over the server is known by their word alone, so
        none counts as a person's."""
        subject = self._channel(channel)
        try:
            stream = await self._stream.find_stream_name_by_subject(subject)
        except nats.js.errors.NotFoundError as error:
            raise NobodyAnswers(f"there are no channels below `{self.prefix}` on this server") from error
        try:
            last = (await self._stream.get_last_msg(stream, subject)).seq
        except nats.js.errors.NotFoundError:
            return []
        newest, seq = collections.deque(maxlen=limit), 0
        messages = await self._stream.subscribe(
            subject, ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        )
        try:
            while seq < last:
                raw = await messages.next_msg(timeout=self.timeout)
                seq, at = raw.metadata.sequence.stream, raw.metadata.timestamp
                message = _message(raw.data, channel, seq, at)
                if not (message.get("expires_at") and _moment(message["expires_at"]) <= _now()):
                    newest.append(message)
        finally:
            await messages.unsubscribe()
        return list(newest)

    def _channel(self, channel):
        """The subject of a channel."""
        if channel not in CHANNELS:
            raise ValueError(f"`{channel}` is not a channel; channels are {', '.join(CHANNELS)}")
        return f"{self.prefix}.{channel}"

    async def _say(self, channel, text, body=None, reply_to=None, key=None):
        """Publishes a message; as it was sent."""
        self._channel(channel)
        message = {"schema": 1, "id": key or str(uuid.uuid4()), "at": _written(_now())}
        message |= {"from": {"kind": "client", "name": self.worker}, "channel": channel, "text": text}
        message |= {name: value for name, value in (("body", body), ("reply_to", reply_to)) if value is not None}
        kept = await self._publish(channel, message, {"Nats-Msg-Id": message["id"]})
        return {**message, "seq": kept.seq}

    async def _publish(self, word, message, headers=None):
        """Appends to a stream of the project; where it is kept."""
        try:
            subject, payload = f"{self.prefix}.{word}", json.dumps(message).encode()
            return await self._stream.publish(subject, payload, timeout=self.timeout, headers=headers)
        except nats.js.errors.NoStreamResponseError as error:
            raise NobodyAnswers(f"there is no queue below `{self.prefix}` on this server") from error

    async def _ask(self, word, message, tries=1):
        """Asks whoever answers for the project, again where no answer comes in time."""
        payload = json.dumps(message).encode()
        for left in reversed(range(tries)):
            try:
                answer = await self._nats.request(f"{self.prefix}.tasks.{word}", payload, timeout=self.timeout)
                break
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError, asyncio.TimeoutError) as error:
                if left and not isinstance(error, nats.errors.NoRespondersError):
                    continue
                text = f"nobody answers below `{self.prefix}`: does a coordinator run (swarm up, swarm queue serve)?"
                raise NobodyAnswers(text) from error
        answer = json.loads(answer.data)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer


def _proof(held):
    """What proves a lease."""
    return {"task_id": held.task_id, "fence": held.fence}


def _now():
    """The present."""
    return datetime.datetime.now(datetime.timezone.utc)


def _written(moment):
    """A moment as messages have it."""
    return moment.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text):
    """A moment of a message; what is none lies far ahead."""
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (AttributeError, TypeError, ValueError):
        moment = datetime.datetime.max
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)


def _message(data, channel, seq, at):
    """A message of a channel, whoever wrote it: what is missing is filled in, and its sender is taken for no person."""
    try:
        message = json.loads(data)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("text"), str):
        message = {"text": data.decode(errors="replace")}
    sender = message.get("from")
    sender = sender if isinstance(sender, dict) else {}
    kind = "worker" if sender.get("kind") == "worker" else "client"
    filled = {"schema": 1, "id": str(seq), "at": _written(at), **message}
    return {**filled, "seq": seq, "channel": channel, "from": {"kind": kind, "name": str(sender.get("name", ""))}}


async def _answer(messages, asked, channel):
    """The first message that answers the one of that id."""
    while True:
        try:
            raw = await messages.next_msg(timeout=60)
        except (nats.errors.TimeoutError, asyncio.TimeoutError):
            continue
        message = _message(raw.data, channel, None, _now())
        if message.get("reply_to") == asked:
            return message
