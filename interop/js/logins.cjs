// Logs in as nats.js does: `node logins.cjs URL LOGIN`, where LOGIN is JSON, in the folder whose node_modules has the library.
//
// Ends with 0 when it was let in and got a message of its own, with 3 when its credentials were refused, with 4 when there was
// no connection, with anything else when something else went wrong.
"use strict";

const assert = require("node:assert/strict");
const { createRequire } = require("node:module");
const path = require("node:path");

const prepared = createRequire(path.join(process.cwd(), "package.json"));
const { connect, nkeyAuthenticator } = prepared("@nats-io/transport-node");

const PATIENCE_MS = 20_000;
const [REFUSED, NO_CONNECTION] = [3, 4];

function options({ user, password, token, seed, ca, certificate, key }) {
  const found = {};
  if (user !== undefined) found.user = user;
  if (password !== undefined) found.pass = password;
  if (token !== undefined) found.token = token;
  if (seed !== undefined) found.authenticator = nkeyAuthenticator(new TextEncoder().encode(seed));
  if (ca !== undefined) found.tls = { caFile: ca, certFile: certificate, keyFile: key };
  return found;
}

async function attempt(servers, login) {
  let client;
  try {
    client = await connect({ servers, timeout: PATIENCE_MS, reconnect: false, ...options(login) });
  } catch (error) {
    console.log(`the client reports: ${error.name}: ${error.message}: ${error.cause}`);
    return /authorization violation/i.test(`${error.message} ${error.cause}`) ? REFUSED : NO_CONNECTION;
  }
  const own = client.subscribe("own", { max: 1 });
  client.publish("own", "hello");
  for await (const message of own) assert.equal(message.string(), "hello");
  await client.close();
  return 0;
}

attempt(process.argv[2], JSON.parse(process.argv[3])).then(
  (code) => process.exit(code),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
