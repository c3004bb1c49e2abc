// The scenarios as nats.js plays them: `node scenarios.cjs SCENARIO URL`, in the folder whose node_modules has the library.
//
// Ends with 0 when the scenario went as it must, with 1 and a reason when not, with 2 when asked for something unknown.
"use strict";

const assert = require("node:assert/strict");
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const prepared = createRequire(path.join(process.cwd(), "package.json"));
const { connect, headers } = prepared("@nats-io/transport-node");

const PATIENCE_MS = 20_000;
const encoder = new TextEncoder();

function connected(servers, options = {}) {
  return connect({ servers, timeout: PATIENCE_MS, ...options });
}

/** A subscription that the server knows of. */
async function subscribed(client, subject, options) {
  const subscription = client.subscribe(subject, options);
  await client.flush();
  return subscription;
}

async function inTime(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come in time`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function following(iterator) {
  const { value, done } = await inTime(iterator.next(), "a message");
  assert.equal(done, false, "the subscription ended");
  return value;
}

const each = (subscription) => subscription[Symbol.asyncIterator]();
const numbers = (count) => Array.from({ length: count }, (_, number) => String(number));
/** Every byte value in turn, so that a shift by one shows. */
const pattern = (size) => Uint8Array.from({ length: size }, (_, at) => at % 256);

function isNoResponders(error) {
  return error.constructor.name === "NoRespondersError" || error.isNoResponders?.() === true ||
    error.cause?.constructor.name === "NoRespondersError";
}

const scenarios = {
  async connect(url) {
    const client = await connected(url);
    assert.equal(client.info.max_payload, 1_048_576);
    assert.equal(client.info.headers, true);
    assert.ok(client.info.client_id > 0);
    assert.match(client.info.version, /^\d+\.\d+\.\d+/);
    assert.ok((await client.rtt()) >= 0);
    await client.close();
    assert.equal(client.isClosed(), true);
  },

  async publish_subscribe(url) {
    const [publisher, subscriber] = [await connected(url), await connected(url)];
    const messages = each(await subscribed(subscriber, "events"));
    numbers(1000).forEach((number) => publisher.publish("events", number));
    await publisher.flush();
    for (const number of numbers(1000)) {
      const message = await following(messages);
      assert.equal(message.string(), number, "in the order of publishing");
      assert.equal(message.subject, "events");
      assert.ok(!message.reply && !message.headers);
    }
  },

  async wildcards(url) {
    const [publisher, subscriber] = [await connected(url), await connected(url)];
    const expected = {
      "a.*.c": ["a.b.c", "a.x.c", "a.end.c"],
      "a.>": ["a.b", "a.b.c", "a.x.c", "a.b.c.d", "a.end.c"],
      "a.b.c": ["a.b.c"],
    };
    const subscriptions = Object.keys(expected).map((subject) => [subject, subscriber.subscribe(subject)]);
    await subscriber.flush();
    for (const subject of ["a", "a.b", "a.b.c", "a.x.c", "a.b.c.d", "b.b.c", "a.end.c"]) {
      publisher.publish(subject, subject);
    }
    publisher.publish("a.b.c", "last");
    await publisher.flush();
    for (const [subject, subscription] of subscriptions) {
      const [got, messages] = [[], each(subscription)];
      for (let message; (message = await following(messages)).string() !== "last";) {
        got.push(message.subject);
      }
      assert.deepEqual(got, expected[subject], subject);
    }
  },

  async queue_groups(url) {
    const [count, members] = [10_000, 5];
    const publisher = await connected(url);
    const shares = new Array(members).fill(0);
    const seen = [];
    let complete;
    const completed = new Promise((resolve) => (complete = resolve));
    const clients = [];
    for (let member = 0; member < members; member++) {
      const client = await connected(url);
      await subscribed(client, "work", {
        queue: "crew",
        callback: (error, message) => {
          assert.ifError(error);
          shares[member] += 1;
          seen.push(message.string());
          if (seen.length === count) complete();
        },
      });
      clients.push(client);
    }
    numbers(count).forEach((number) => publisher.publish("work", number));
    await publisher.flush();
    await inTime(completed, "the last message");
    // Whatever was sent twice arrives before this does.
    for (const client of clients) await client.flush();
    assert.equal(seen.length, count);
    assert.equal(new Set(seen).size, count);
    // A fair choice gives each member 2,000 with a standard deviation of 40; the band is six of those.
    assert.ok(shares.every((share) => share >= 1_760 && share <= 2_240), `shares ${shares} are not fair`);
  },

  async request_reply(url) {
    const [caller, service] = [await connected(url), await connected(url)];
    await subscribed(service, "echo", {
      callback: (error, request) => {
        assert.ifError(error);
        request.respond(`you said ${request.string()}`);
      },
    });
    for (const number of numbers(100)) {
      const reply = await caller.request("echo", number, { timeout: PATIENCE_MS });
      assert.equal(reply.string(), `you said ${number}`);
    }
  },

  async no_responders(url) {
    const client = await connected(url);
    await assert.rejects(client.request("nobody.home", "hello?", { timeout: PATIENCE_MS }), isNoResponders);
  },

  async headers(url) {
    const [publisher, subscriber] = [await connected(url), await connected(url)];
    const messages = each(await subscribed(subscriber, "letters"));
    const sent = headers();
    sent.append("Colour", "green");
    sent.append("Colour", "blue");
    sent.set("Empty", "");
    sent.set("cAsE", "kept");
    for (const payload of ["with headers", ""]) {
      publisher.publish("letters", payload, { headers: sent });
    }
    await publisher.flush();
    for (const payload of ["with headers", ""]) {
      const message = await following(messages);
      assert.equal(message.string(), payload);
      assert.deepEqual(message.headers.values("Colour"), ["green", "blue"]);
      assert.deepEqual(message.headers.values("Empty"), [""]);
      assert.deepEqual(message.headers.keys().sort(), ["Colour", "Empty", "cAsE"]);
    }
  },

  async payload_limit(url) {
    const client = await connected(url);
    const messages = each(await subscribed(client, "heavy"));
    const largest = pattern(client.info.max_payload);
    assert.equal(largest.length, 1_048_576);
    client.publish("heavy", largest);
    assert.deepEqual(Buffer.from((await following(messages)).data), Buffer.from(largest));
    assert.throws(() => client.publish("heavy", pattern(largest.length + 1)), /max_payload/);
    client.publish("heavy", "light");
    assert.equal((await following(messages)).string(), "light");
  },

  async auto_unsubscribe(url) {
    const [publisher, subscriber] = [await connected(url), await connected(url)];
    const got = [];
    const limited = subscriber.subscribe("events");
    limited.unsubscribe(3);
    await subscriber.flush();
    numbers(5).forEach((number) => publisher.publish("events", number));
    await publisher.flush();
    await inTime((async () => {
      for await (const message of limited) got.push(message.string());
    })(), "the end of the subscription");
    assert.deepEqual(got, ["0", "1", "2"]);
  },

  async drain(url) {
    const [publisher, subscriber] = [await connected(url), await connected(url)];
    const got = [];
    const subscription = await subscribed(subscriber, "events");
    const reading = (async () => {
      for await (const message of subscription) got.push(message.string());
    })();
    numbers(500).forEach((number) => publisher.publish("events", number));
    await publisher.flush();
    await inTime(subscriber.drain(), "the end of the drain");
    await inTime(reading, "the end of the subscription");
    assert.deepEqual(got, numbers(500));
    assert.equal(subscriber.isClosed(), true);
    // The server knows no subscriber any more.
    await assert.rejects(publisher.request("events", "late", { timeout: PATIENCE_MS }), isNoResponders);
  },

  async reconnect(url) {
    const client = await connected(url, { reconnectTimeWait: 50, maxReconnectAttempts: -1 });
    const status = each(client.status());
    const messages = each(await subscribed(client, "events"));
    client.publish("events", "before");
    assert.equal((await following(messages)).string(), "before");

    const lines = readline.createInterface({ input: process.stdin });
    console.log("restart");
    const [answer] = await inTime(require("node:events").once(lines, "line"), "the restart");
    lines.close();
    assert.equal(answer, "restarted");
    for (const expected of ["disconnect", "reconnect"]) {
      for (let event; (event = await following(status)).type !== expected;) {
        console.log(`on the way: ${event.type}`);
      }
    }
    client.publish("events", "after");
    assert.equal((await following(messages)).string(), "after");
  },

  /**
   * In a cluster, of which this client is told one server: says `ready`, and is told when that one is gone, by the number of
   * those who publish once to each subject. Empty messages are from asking whether somebody hears.
   */
  async failover(url) {
    const client = await connected(url, { reconnectTimeWait: 20, maxReconnectAttempts: -1 });
    const home = client.getServer();
    const status = each(client.status());
    const subscriptions = numbers(100).map((number) => client.subscribe(`kept.${number}`));
    await client.flush();
    const lines = readline.createInterface({ input: process.stdin });
    console.log("ready");
    const [publishers] = await inTime(require("node:events").once(lines, "line"), "the end of the server");
    lines.close();
    for (let event; (event = await following(status)).type !== "reconnect";) {
      console.log(`on the way: ${event.type}`);
    }
    assert.notEqual(client.getServer(), home);
    for (const [number, subscription] of subscriptions.entries()) {
      const [heard, messages] = [[], each(subscription)];
      while (heard.length < Number(publishers)) {
        const text = (await following(messages)).string();
        if (text !== "") heard.push(text);
      }
      assert.equal(new Set(heard).size, heard.length, `kept.${number} heard twice`);
    }
  },

  async thousand_subscriptions(url) {
    const [publisher, subscriber] = [await connected(url), await connected(url)];
    const subjects = numbers(1000).map((number) => `many.${number}`);
    const subscriptions = subjects.map((subject) => subscriber.subscribe(subject));
    await subscriber.flush();
    subjects.forEach((subject) => publisher.publish(subject, subject));
    await publisher.flush();
    for (const [at, subject] of subjects.entries()) {
      const message = await following(each(subscriptions[at]));
      assert.deepEqual([message.subject, message.string()], [subject, subject]);
    }
    await subscriber.flush();
    assert.ok(subscriptions.every((subscription) => subscription.getReceived() === 1), "delivered twice");
  },

  async binary_payload(url) {
    const client = await connected(url);
    const messages = each(await subscribed(client, "binary"));
    const lookalike = encoder.encode("\r\nMSG binary 1 3\r\nabc\r\n-ERR 'no'\r\nPING\r\n\r\n");
    const payloads = [pattern(256 * 8), lookalike, encoder.encode("\r\n"), encoder.encode("\n"), new Uint8Array(100)];
    payloads.forEach((payload) => client.publish("binary", payload));
    for (const payload of payloads) {
      assert.deepEqual(Buffer.from((await following(messages)).data), Buffer.from(payload));
    }
  },
};

async function main([name, url, ...rest]) {
  const scenario = scenarios[name];
  if (!scenario || !url || rest.length > 0) {
    console.error(`usage: node scenarios.cjs (${Object.keys(scenarios).join("|")}) URL`);
    return 2;
  }
  try {
    await scenario(url);
    return 0;
  } catch (error) {
    console.error(`${name}: ${error.stack}`);
    return 1;
  }
}

// Connections that a scenario leaves open must not keep the process alive.
main(process.argv.slice(2)).then((code) => process.exit(code));
