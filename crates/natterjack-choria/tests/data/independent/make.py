"""Makes the messages beside this file: requests and replies of protocol 1, without any of our code.

Signatures and hashes are made by the program `openssl`. Run it in this folder; what it writes is the same every time,
since signatures of RSASSA-PKCS1-v1_5 have no randomness.
"""

import base64
import json
import subprocess

KEY = "../rip.mcollective.key.pem"
CERTIFICATE = open("../rip.mcollective.pem").read()
REPLY_TO = "mcollective.reply.37bdf08389145a56c13096c178802d3b.4711.1"
TIME = 1795289687
REQUEST = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


def openssl(*arguments, data):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def lines(data):
    """As pack("m") of Ruby writes base 64."""
    text = base64.b64encode(data).decode()
    return "".join(text[at:at + 60] + "\n" for at in range(0, len(text), 60))


def one_line(data):
    return base64.b64encode(data).decode()


def request(wrap):
    body = compact({
        "agent": "rpcutil", "action": "get_fact", "caller": "choria=rip.mcollective",
        "data": {"fact": "stadt=Zürich \"quoted\" \\ \n", "process_results": True},
    })
    message = compact({
        "protocol": "choria:request:1",
        "message": body,
        "envelope": {
            "requestid": REQUEST,
            "senderid": "client.example.net",
            "callerid": "choria=rip.mcollective",
            "filter": {
                "fact": [{"fact": "os.family", "value": "Debian", "operator": "=="}],
                "cf_class": ["/web/"], "agent": ["rpcutil"], "identity": [], "compound": [],
            },
            "collective": "mcollective",
            "agent": "rpcutil",
            "ttl": 60,
            "time": TIME,
        },
    })
    signature = openssl("dgst", "-sha256", "-sign", KEY, data=message.encode())
    secure = compact({
        "protocol": "choria:secure:request:1",
        "message": message,
        "signature": wrap(signature).rstrip("\n"),
        "pubcert": CERTIFICATE,
    })
    return compact({
        "protocol": "choria:transport:1",
        "data": wrap(secure.encode()),
        "headers": {"mc_sender": "client.example.net", "reply-to": REPLY_TO},
    })


def reply(wrap):
    message = compact({
        "protocol": "choria:reply:1",
        "message": compact({"statuscode": 0, "statusmsg": "OK", "data": {"fact": "stadt", "value": "Zürich"}}),
        "envelope": {
            "senderid": "node1.example.net", "requestid": REQUEST, "agent": "rpcutil", "time": TIME,
        },
    })
    secure = compact({
        "protocol": "choria:secure:reply:1",
        "message": message,
        "hash": one_line(openssl("dgst", "-sha256", "-binary", data=message.encode())),
    })
    return compact({
        "protocol": "choria:transport:1",
        "data": wrap(secure.encode()),
        "headers": {"mc_sender": "node1.example.net"},
    })


for name, make in (("request", request), ("reply", reply)):
    for style, wrap in (("lines", lines), ("one_line", one_line)):
        with open(f"{name}.{style}.json", "w") as file:
            file.write(make(wrap))
