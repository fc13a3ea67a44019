"""Stripe as far as billing asks it: sessions, refunds and signed events, over HTTP, for the real library.

Stripe itself cannot be had here. What this imitates is documented: answers by idempotency key, cumulative refunds, the shape
of objects and events.
"""

import asyncio
import json
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import stripe

KEY, SECRET = "sk_test_for_tests", "whsec_for_tests"


class FakeStripe(ThreadingHTTPServer):
    """Sessions and charges in memory; `answered` has what each idempotency key was answered."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.sessions, self.charges, self.refunds, self.answered, self.asked = {}, {}, [], {}, []
        self.invoices = {}  # by the payment that paid it
        self.fail_next = []
        """What the next calls are answered with instead: a status, or "hang up" after the work was done."""
        self.lock = threading.RLock()

    def create_session(self, form):
        session = {
            "id": f"cs_test_{uuid.uuid4().hex}",
            "object": "checkout.session",
            "metadata": _part(form, "metadata"),
            "payment_intent_metadata": _part(form, "payment_intent_data[metadata]"),
            "payment_status": "unpaid",
            "status": "open",
            "payment_intent": None,
            "amount_total": int(form["line_items[0][price_data][unit_amount]"]),
            "currency": form["line_items[0][price_data][currency]"],
        }
        session["url"] = f"https://checkout.stripe.test/{session['id']}"
        self.sessions[session["id"]] = session
        return session

    def pay(self, session, **changes):
        """Pay a session, as a buyer does."""
        intent = f"pi_{uuid.uuid4().hex}"
        session |= {"payment_status": "paid", "status": "complete", "payment_intent": intent, "url": None} | changes
        self.charges[intent] = {
            "id": f"ch_{uuid.uuid4().hex}",
            "object": "charge",
            "payment_intent": intent,
            "amount": session["amount_total"],
            "amount_refunded": 0,
            "currency": session["currency"],
            "metadata": session["payment_intent_metadata"],
        }
        return intent

    def refund(self, intent, amount=None):
        """Give money back; returns the charge."""
        charge = self.charges[intent]
        left = charge["amount"] - charge["amount_refunded"]
        if not left or (amount or left) > left:
            return None
        charge["amount_refunded"] += amount or left
        return dict(charge)

    def dispute(self, intent, status="needs_response", dispute_id=None, amount=None):
        return {
            "id": dispute_id or f"dp_{uuid.uuid4().hex}",
            "object": "dispute",
            "payment_intent": intent,
            "charge": self.charges[intent]["id"],
            "amount": amount or self.charges[intent]["amount"],
            "status": status,
        }


def event(kind, about, event_id=None, **changes):
    """Return an event's body."""
    whole = {
        "id": event_id or f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "type": kind,
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": about},
    }
    return json.dumps(whole | changes, indent=2).encode()


def signed(body, secret=SECRET, timestamp=None):
    """Return the header that Stripe signs a body with."""
    return stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp)


@contextmanager
def fake_stripe():
    with FakeStripe() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        form = dict(parse_qsl(self.rfile.read(int(self.headers.get("content-length", 0))).decode()))
        key = self.headers["idempotency-key"]
        with self.server.lock:
            self.server.asked.append((self.path, key, form))
            failure = self.server.fail_next.pop(0) if self.server.fail_next else None
            if isinstance(failure, int):
                return self._send(failure, {"error": {"type": "api_error", "message": "a secret of Stripe's"}})
            if key in self.server.answered:
                before, answer = self.server.answered[key]
                if before != form:
                    return self._send(400, {"error": {"type": "idempotency_error", "message": "other parameters"}})
            else:
                answer = self._do(form)
                self.server.answered[key] = form, answer
        if failure == "hang up":
            self.close_connection = True
            return self.connection.close()
        return self._send(*answer)

    def _do(self, form):
        if self.path == "/v1/checkout/sessions":
            return 200, dict(self.server.create_session(form))
        if self.path == "/v1/refunds":
            amount = int(form["amount"]) if "amount" in form else None
            charge = self.server.refund(form["payment_intent"], amount)
            if charge is None:
                code = "charge_already_refunded"
                return 400, {"error": {"type": "invalid_request_error", "code": code, "message": "no"}}
            refund = {"id": f"re_{uuid.uuid4().hex}", "object": "refund", "payment_intent": form["payment_intent"]}
            self.server.refunds.append(refund | {"metadata": _part(form, "metadata")})
            return 200, refund | {"charge": charge}
        return 404, {"error": {"type": "invalid_request_error", "message": "no such path"}}

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/v1/refunds":
            intent = dict(parse_qsl(query))["payment_intent"]
            found = [refund for refund in self.server.refunds if refund["payment_intent"] == intent]
            data = [refund | {"charge": dict(self.server.charges[intent])} for refund in reversed(found)]
            return self._send(200, {"object": "list", "url": path, "has_more": False, "data": data})
        if path == "/v1/invoice_payments":
            if self.server.fail_next:
                return self._send(self.server.fail_next.pop(0), {"error": {"message": "not with this key"}})
            paid = self.server.invoices.get(dict(parse_qsl(query))["payment[payment_intent]"])
            data = [{"id": "inpay_1", "object": "invoice_payment", "invoice": paid}] if paid else []
            return self._send(200, {"object": "list", "url": path, "has_more": False, "data": data})
        session = self.server.sessions.get(self.path.rpartition("/")[2])
        missing = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "no such session"}}
        return self._send(*((200, session) if session else (404, missing)))

    def _send(self, status, answer):
        if self.headers["authorization"] != f"Bearer {KEY}":
            status, answer = 401, {"error": {"type": "invalid_request_error", "message": "no such key"}}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _part(form, name):
    return {key[len(name) + 1 : -1]: value for key, value in form.items() if key.startswith(f"{name}[")}


async def at_once(call, times):
    return await asyncio.gather(*(call() for _ in range(times)), return_exceptions=True)
