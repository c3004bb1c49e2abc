"""Logs in as nats.py does: `logins.py URL LOGIN`, where LOGIN is JSON.

Ends with 0 when it was let in and got a message of its own, with 3 when its credentials were refused, with 4 when there was
no connection, with anything else when something else went wrong.
"""

import asyncio
import base64
import binascii
import json
import os
import ssl
import subprocess
import sys
import tempfile
import types

import nats

PATIENCE = 20
REFUSED, NO_CONNECTION = 3, 4


class KeyPair:
    """What nats.py wants of the package `nkeys`, which is not there; the openssl command signs."""

    HEAD = bytes.fromhex("302e020100300506032b657004220420")

    def __init__(self, seed):
        text = bytes(seed)
        raw = base64.b32decode(text + b"=" * (-len(text) % 8))
        self.folder = tempfile.TemporaryDirectory()
        self.key = os.path.join(self.folder.name, "key.der")
        with open(self.key, "wb") as file:
            file.write(self.HEAD + raw[2:34])
        # The role's letter stands in both bytes in front of the seed.
        self.role = bytes([(raw[0] & 7) << 5 | raw[1] >> 3])

    def openssl(self, *words):
        command = ["openssl", *words, "-inform" if words[0] == "pkey" else "-keyform", "DER"]
        result = subprocess.run(command, capture_output=True, timeout=PATIENCE)
        if result.returncode:
            raise AssertionError(f"{command}: {result.stderr}")
        return result.stdout

    @property
    def public_key(self):
        body = self.role + self.openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")[-32:]
        check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
        return base64.b32encode(body + check).rstrip(b"=")

    def sign(self, nonce):
        path = os.path.join(self.folder.name, "nonce")
        with open(path, "wb") as file:
            file.write(nonce)
        return self.openssl("pkeyutl", "-sign", "-rawin", "-in", path, "-inkey", self.key)

    def wipe(self):
        self.folder.cleanup()


def options(login):
    given = {"user": "user", "password": "password", "token": "token", "seed": "nkeys_seed_str"}
    found = {option: login[name] for name, option in given.items() if name in login}
    if "ca" in login:
        context = ssl.create_default_context(cafile=login["ca"])
        if "certificate" in login:
            context.load_cert_chain(login["certificate"], login["key"])
        found |= {"tls": context, "tls_hostname": "localhost"}
    return found


async def attempt(url, login):
    told = []

    async def failed(error):
        told.append(error)

    try:
        client = await nats.connect(
            url, allow_reconnect=False, connect_timeout=PATIENCE, error_cb=failed, **options(login)
        )
        own = await client.subscribe("own")
        await client.publish("own", b"hello")
        message = await own.next_msg(timeout=PATIENCE)
        if message.data != b"hello":
            raise AssertionError(f"{message.data} instead of hello")
        await client.close()
    except AssertionError:
        raise
    except Exception as error:
        told.append(error)
        print(f"the client reports: {told!r}")
        is_refused = any("authorization violation" in str(error).lower() for error in told)
        return REFUSED if is_refused else NO_CONNECTION
    return 0


if __name__ == "__main__":
    stand_in = types.ModuleType("nkeys")
    stand_in.KeyPair, stand_in.from_seed = KeyPair, KeyPair
    sys.modules.setdefault("nkeys", stand_in)
    sys.exit(asyncio.run(attempt(sys.argv[1], json.loads(sys.argv[2]))))
