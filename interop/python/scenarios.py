"""The scenarios as nats.py plays them: `scenarios.py SCENARIO URL`.

Ends with 0 when the scenario went as it must, with 1 and a reason when not, with 2 when asked for something unknown.
"""

import asyncio
import sys
import traceback

import nats
from nats.errors import MaxPayloadError, NoRespondersError

PATIENCE = 20


async def connected(url, **options):
    # Errors the library would only log are failures here.
    async def failed(error):
        print(f"the client reports: {error!r}")

    options = {"error_cb": failed, "connect_timeout": PATIENCE} | options
    return await nats.connect(url, **options)


async def settled(client):
    """Returns when the server has done all that this client asked for.

    The library's flush may send its PING ahead of commands that it still holds, so a message to ourselves it is.
    """
    inbox = client.new_inbox()
    own = await client.subscribe(inbox)
    await client.publish(inbox)
    await following(own)
    await own.unsubscribe()


async def subscribed(client, subject, **options):
    """A subscription that the server knows of."""
    subscription = await client.subscribe(subject, **options)
    await settled(client)
    return subscription


async def following(subscription):
    return await subscription.next_msg(timeout=PATIENCE)


def check(condition, reason):
    if not condition:
        raise AssertionError(reason)


def equal(got, expected, what="got"):
    check(got == expected, f"{what}: {repr(got)[:500]}, expected {repr(expected)[:500]}")


def pattern(size):
    """Every byte value in turn, so that a shift by one shows."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


async def connect(url):
    client = await connected(url)
    check(client.is_connected, "not connected")
    equal(client.max_payload, 1_048_576, "max_payload")
    check(client.connected_server_version.major >= 2, "server version")
    check(client.client_id > 0, "client id")
    check(await client.rtt() > 0, "round trip time")
    await client.close()
    check(client.is_closed, "not closed")


async def publish_subscribe(url):
    publisher, subscriber = await connected(url), await connected(url)
    subscription = await subscribed(subscriber, "events")
    for number in range(1000):
        await publisher.publish("events", str(number).encode())
    await settled(publisher)
    for number in range(1000):
        message = await following(subscription)
        equal(message.data, str(number).encode(), "in the order of publishing")
        equal((message.subject, message.reply, message.headers), ("events", "", None))


async def wildcards(url):
    publisher, subscriber = await connected(url), await connected(url)
    expected = {
        "a.*.c": ["a.b.c", "a.x.c", "a.end.c"],
        "a.>": ["a.b", "a.b.c", "a.x.c", "a.b.c.d", "a.end.c"],
        "a.b.c": ["a.b.c"],
    }
    subscriptions = {subject: await subscribed(subscriber, subject) for subject in expected}
    for subject in ["a", "a.b", "a.b.c", "a.x.c", "a.b.c.d", "b.b.c", "a.end.c"]:
        await publisher.publish(subject, subject.encode())
    await publisher.publish("a.b.c", b"last")
    await settled(publisher)
    for subject, subscription in subscriptions.items():
        got = []
        while (message := await following(subscription)).data != b"last":
            got.append(message.subject)
        equal(got, expected[subject], subject)


async def queue_groups(url):
    messages, members = 10_000, 5
    # A fair choice gives each member 2,000 with a standard deviation of 40; the band is six of those.
    fair = range(1_760, 2_241)
    publisher = await connected(url)
    shares = [0] * members
    seen = []
    complete = asyncio.get_running_loop().create_future()

    def counting(member):
        async def count(message):
            shares[member] += 1
            seen.append(message.data)
            if len(seen) == messages and not complete.done():
                complete.set_result(None)

        return count

    clients = [await connected(url) for _ in range(members)]
    for member, client in enumerate(clients):
        await subscribed(client, "work", queue="crew", cb=counting(member))
    for number in range(messages):
        await publisher.publish("work", str(number).encode())
    await settled(publisher)
    await asyncio.wait_for(complete, PATIENCE)
    # Whatever was sent twice arrives before this does.
    for client in clients:
        await settled(client)
    equal(len(seen), messages, "messages")
    equal(len(set(seen)), messages, "different messages")
    check(all(share in fair for share in shares), f"shares {shares} are not fair")


async def request_reply(url):
    caller, service = await connected(url), await connected(url)

    async def answer(request):
        await request.respond(b"you said " + request.data)

    await subscribed(service, "echo", cb=answer)
    for number in range(100):
        reply = await caller.request("echo", str(number).encode(), timeout=PATIENCE)
        equal(reply.data, b"you said %d" % number)


async def no_responders(url):
    client = await connected(url)
    try:
        await client.request("nobody.home", b"hello?", timeout=PATIENCE)
    except NoRespondersError:
        return
    raise AssertionError("somebody answered")


async def headers(url):
    publisher, subscriber = await connected(url), await connected(url)
    subscription = await subscribed(subscriber, "letters")
    sent = {"Colour": "green", "Empty": "", "cAsE": "kept", "Umlaut": "grün"}
    for payload in [b"with headers", b""]:
        await publisher.publish("letters", payload, headers=sent)
    await settled(publisher)
    for payload in [b"with headers", b""]:
        message = await following(subscription)
        equal(message.data, payload)
        equal(message.headers, sent, "headers")

    # The library cannot send a name twice, so a bare connection does. On receipt the library keeps the last value.
    host, port = url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    block = b"NATS/1.0\r\nColour: green\r\nColour: blue\r\nEmpty: \r\n\r\n"
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"HPUB letters %d %d\r\n%shello\r\n" % (len(block), len(block) + 5, block))
    await writer.drain()
    message = await following(subscription)
    equal(message.data, b"hello")
    equal(message.headers, {"Colour": "blue", "Empty": ""}, "headers")
    writer.close()


async def payload_limit(url):
    client = await connected(url)
    subscription = await subscribed(client, "heavy")
    largest = pattern(client.max_payload)
    equal(len(largest), 1_048_576, "max_payload")
    await client.publish("heavy", largest)
    check((await following(subscription)).data == largest, "the largest payload was changed")
    try:
        await client.publish("heavy", largest + b"x")
    except MaxPayloadError:
        pass
    else:
        raise AssertionError("one byte too many was accepted")
    await client.publish("heavy", b"light")
    equal((await following(subscription)).data, b"light")


async def auto_unsubscribe(url):
    publisher, subscriber = await connected(url), await connected(url)
    got = []

    async def note(message):
        got.append(message.data)

    subscription = await subscriber.subscribe("events", cb=note)
    await subscription.unsubscribe(limit=3)
    marker = await subscribed(subscriber, "events")
    for number in range(5):
        await publisher.publish("events", str(number).encode())
    await settled(publisher)
    for _ in range(5):
        await following(marker)
    await settled(subscriber)
    equal(got, [b"0", b"1", b"2"])


async def drain(url):
    publisher, subscriber = await connected(url), await connected(url)
    got = []

    async def note(message):
        got.append(message.data)

    await subscribed(subscriber, "events", cb=note)
    for number in range(500):
        await publisher.publish("events", str(number).encode())
    await settled(publisher)
    await asyncio.wait_for(subscriber.drain(), PATIENCE)
    equal(got, [str(number).encode() for number in range(500)], "before the drain ended")
    check(subscriber.is_closed, "not closed")
    # The server knows no subscriber any more.
    try:
        await publisher.request("events", b"late", timeout=PATIENCE)
    except NoRespondersError:
        return
    raise AssertionError("somebody answered")


async def reconnect(url):
    events = asyncio.Queue()

    async def disconnected():
        events.put_nowait("disconnected")

    async def reconnected():
        events.put_nowait("reconnected")

    async def expected_error(error):
        print(f"on the way: {error!r}")

    client = await connected(
        url,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        error_cb=expected_error,
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
    )
    subscription = await subscribed(client, "events")
    await client.publish("events", b"before")
    equal((await following(subscription)).data, b"before")

    print("restart", flush=True)
    answer = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    equal(answer.strip(), "restarted")
    for expected in ["disconnected", "reconnected"]:
        equal(await asyncio.wait_for(events.get(), PATIENCE), expected)
    await client.publish("events", b"after")
    equal((await following(subscription)).data, b"after")


async def failover(url):
    """In a cluster, of which this client is told one server: says `ready`, and is told when that one is gone, by the number
    of those who publish once to each subject. Empty messages are from asking whether somebody hears."""
    back = asyncio.Event()

    async def reconnected():
        back.set()

    async def expected_error(error):
        print(f"on the way: {error!r}")

    client = await connected(
        url,
        reconnected_cb=reconnected,
        error_cb=expected_error,
        reconnect_time_wait=0.02,
        max_reconnect_attempts=-1,
    )
    home = client.connected_url.netloc
    subscriptions = [await client.subscribe(f"kept.{number}") for number in range(100)]
    await settled(client)
    print("ready", flush=True)
    publishers = int(await asyncio.to_thread(sys.stdin.readline))
    await asyncio.wait_for(back.wait(), PATIENCE)
    check(client.connected_url.netloc != home, "the server that is gone")
    for number, subscription in enumerate(subscriptions):
        heard = []
        while len(heard) < publishers:
            message = await following(subscription)
            if message.data:
                heard.append(message.data)
        equal(len(set(heard)), publishers, f"kept.{number} heard twice")


async def thousand_subscriptions(url):
    publisher, subscriber = await connected(url), await connected(url)
    subjects = [f"many.{number}" for number in range(1000)]
    subscriptions = [await subscriber.subscribe(subject) for subject in subjects]
    await settled(subscriber)
    for subject in subjects:
        await publisher.publish(subject, subject.encode())
    await settled(publisher)
    for subject, subscription in zip(subjects, subscriptions):
        message = await following(subscription)
        equal((message.subject, message.data), (subject, subject.encode()))
    await settled(subscriber)
    equal(sum(subscription.pending_msgs for subscription in subscriptions), 0, "left over")


async def binary_payload(url):
    client = await connected(url)
    subscription = await subscribed(client, "binary")
    lookalike = b"\r\nMSG binary 1 3\r\nabc\r\n-ERR 'no'\r\nPING\r\n\r\n"
    payloads = [pattern(256 * 8), lookalike, b"\r\n", b"\n", bytes(100)]
    for payload in payloads:
        await client.publish("binary", payload)
    for payload in payloads:
        equal((await following(subscription)).data, payload)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in [
        connect,
        publish_subscribe,
        wildcards,
        queue_groups,
        request_reply,
        no_responders,
        headers,
        payload_limit,
        auto_unsubscribe,
        drain,
        reconnect,
        failover,
        thousand_subscriptions,
        binary_payload,
    ]
}


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in SCENARIOS:
        print(f"usage: scenarios.py ({'|'.join(SCENARIOS)}) URL", file=sys.stderr)
        return 2
    scenario, url = arguments
    try:
        asyncio.run(SCENARIOS[scenario](url))
    except AssertionError as failure:
        print(f"{scenario}: {failure}", file=sys.stderr)
        traceback.print_exc()
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
