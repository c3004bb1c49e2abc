// A program without Natterjack's library takes part in an event bus: `node bus.cjs URL SUBJECT`, in the folder whose
// node_modules has the library. It does what `python/bus.py` does.
"use strict";

const assert = require("node:assert/strict");
const { createRequire } = require("node:module");
const path = require("node:path");

const prepared = createRequire(path.join(process.cwd(), "package.json"));
const { connect, headers } = prepared("@nats-io/transport-node");

const BINARY = {
  "Ce-Specversion": "1.0",
  "Ce-Id": "b1",
  "Ce-Source": "/java%20script",
  "Ce-Type": "com.example.counted.v1",
  "Ce-Subject": "two",
  "Ce-Routingkey": "k",
  "Content-Type": "application/json",
};

function structured(number) {
  return JSON.stringify({
    specversion: "1.0",
    id: `s${number}`,
    source: "javascript",
    type: "com.example.counted.v1",
    datacontenttype: "application/json",
    data: { n: number },
  });
}

function carrying(entries) {
  const carried = headers();
  for (const [name, value] of Object.entries(entries)) {
    carried.set(name, value);
  }
  return { headers: carried };
}

async function run(url, subject) {
  const client = await connect({ servers: url, timeout: 20_000 });
  const messages = client.subscribe(subject)[Symbol.asyncIterator]();
  await client.flush();
  const cloudEvent = carrying({ "Content-Type": "application/cloudevents+json; charset=utf-8" });
  client.publish(subject, '{"n":1}');
  client.publish(subject, '{"n":2}', carrying(BINARY));
  client.publish(subject, structured(3), cloudEvent);
  client.publish(subject, structured(4));
  client.publish(subject, "not JSON");
  client.publish(subject, '{"n":0}', carrying({ ...BINARY, "Ce-Specversion": "2.0" }));
  client.publish(subject, '{"n":5}');

  let message;
  do {
    message = (await messages.next()).value;
  } while (message.headers?.get("ce-source") !== "natterjack");
  assert.equal(message.string(), '{"n":100}');
  assert.equal(message.headers.get("ce-specversion"), "1.0");
  assert.equal(message.headers.get("ce-type"), "com.example.counted.v1");
  assert.equal(message.headers.get("ce-subject"), "hundred");
  assert.equal(message.headers.get("ce-routingkey"), "agent%207");
  assert.equal(message.headers.get("content-type"), "application/json");
  assert.equal(message.headers.get("ce-id")[14], "7");
  assert.match(message.headers.get("ce-time"), /Z$/);

  const answer = (await client.request(`${subject}.ask`, structured(41), { timeout: 20_000 })).json();
  assert.deepEqual([answer.answer, answer.data, answer.source], ["ok", 42, "natterjack"]);
  await client.close();
}

run(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
