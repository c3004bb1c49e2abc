"""A program without Natterjack's library takes part in an event bus: `bus.py URL SUBJECT`.

It publishes events in every form a program may use, reads one of the bus, and asks it a question. Ends with 0 when all
went as it must, with 1 and a reason when not.
"""

import asyncio
import json
import sys

from scenarios import check, connected, equal, following, subscribed

BINARY = {
    "Ce-Specversion": "1.0",
    "Ce-Id": "b1",
    "Ce-Source": "/py%20thon",
    "Ce-Type": "com.example.counted.v1",
    "Ce-Subject": "two",
    "Ce-Routingkey": "k",
    "Content-Type": "application/json",
}


def structured(number):
    return {
        "specversion": "1.0",
        "id": f"s{number}",
        "source": "python",
        "type": "com.example.counted.v1",
        "datacontenttype": "application/json",
        "data": {"n": number},
    }


def text(value):
    return json.dumps(value).encode()


async def run(url, subject):
    client = await connected(url)
    messages = await subscribed(client, subject)
    cloud_event = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    await client.publish(subject, text({"n": 1}))
    await client.publish(subject, text({"n": 2}), headers=BINARY)
    await client.publish(subject, text(structured(3)), headers=cloud_event)
    await client.publish(subject, text(structured(4)))
    await client.publish(subject, b"not JSON")
    await client.publish(subject, text({"n": 0}), headers=BINARY | {"Ce-Specversion": "2.0"})
    await client.publish(subject, text({"n": 5}))

    while True:
        message = await following(messages)
        if (message.headers or {}).get("ce-source") == "natterjack":
            break
    equal(message.data, b'{"n":100}', "the payload")
    headers = message.headers
    equal(headers["ce-specversion"], "1.0", "the version")
    equal(headers["ce-type"], "com.example.counted.v1", "the type")
    equal(headers["ce-subject"], "hundred", "the subject")
    equal(headers["ce-routingkey"], "agent%207", "the key, encoded as in HTTP")
    equal(headers["content-type"], "application/json", "the media type")
    check(headers["ce-id"][14] == "7" and headers["ce-time"].endswith("Z"), f"id or time: {headers}")

    answer = json.loads((await client.request(f"{subject}.ask", text(structured(41)), timeout=20)).data)
    equal((answer["answer"], answer["data"], answer["source"]), ("ok", 42, "natterjack"), "the answer")
    await client.close()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
