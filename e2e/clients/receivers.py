"""A mail server and a receiver of webhooks, both on ports of the system's choice on this machine.

The first line that comes out names the ports: {"smtp": …, "http": …}. Then there is one line for each mail,
{"mail": {"to", "from", "subject", "body"}}, and one for each request, {"webhook": {"headers", "body"}}.
"""

import asyncio
import email
import email.policy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.smtp import SMTP

output = threading.Lock()


def say(**message):
    with output:
        print(json.dumps(message), flush=True)


class Mailbox:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        say(mail={
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            "subject": mail["subject"],
            "body": mail.get_body().get_content(),
        })
        return "250 taken"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(204)
        self.end_headers()
        say(webhook={"headers": headers, "body": body.decode()})

    def log_message(self, *_):
        pass


async def main():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    loop = asyncio.get_running_loop()
    smtp = await loop.create_server(lambda: SMTP(Mailbox(), loop=loop), "127.0.0.1", 0)
    say(smtp=smtp.sockets[0].getsockname()[1], http=http.server_address[1])
    await smtp.serve_forever()


asyncio.run(main())
