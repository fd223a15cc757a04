"""Events as Close makes them: every pair of the catalog, with the members that its object has in Close.

The envelope, its order of keys, ids and dates follow real deliveries. The data of object types of which no real
delivery is known is built from the names in Close's REST documents.
"""
import collections
import csv
import datetime
import json
import pathlib
import random
import time

CATALOG = pathlib.Path(__file__).resolve().parents[2] / "schemas" / "catalog.csv"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NAMES = ["Bluth Company", "Müller & Söhne", "株式会社テスト", 'O\'Neill "Quotes" Ltd', "Sitwell Enterprises"]
PEOPLE = ["Gob Bluth", "Lucille Austero", "Åsa Öberg", "Tobias Fünke"]

Pair = collections.namedtuple("Pair", "object_type action category label status group")


def catalog():
    """Every pair that Close has, as Pair."""
    with open(CATALOG, newline="", encoding="utf-8") as file:
        return [Pair(*(row[name] for name in Pair._fields)) for row in csv.DictReader(file)]


def resolved(object_type):
    """The object type under which the bridge publishes: an alias of Close's documents becomes its real name."""
    return "activity.custom_activity" if object_type == "custom_activity" else object_type


# What an id begins with, by object type, else by family.
PREFIXES = {
    "lead": "lead", "contact": "cont", "opportunity": "oppo", "task": "task", "activity": "acti", "custom_activity": "acti",
    "membership": "memb", "group": "group", "custom_fields": "cf", "status": "stat",
    "bulk_action": "bulkact", "email_template": "tmpl", "sms_template": "smstmpl", "saved_search": "save",
    "phone_number": "phon", "export": "expo", "import": "impo", "sequence": "seq", "sequence_subscription": "sub",
    "custom_activity_type": "actitype", "custom_object_type": "cotype", "custom_object": "cobj", "comment": "comm",
    "comment_thread": "commthread", "unsubscribed_email": "unsub",
}
WITHOUT_LEAD = {"membership", "group", "custom_fields", "status", "bulk_action", "email_template", "sms_template",
                "saved_search", "phone_number", "export", "import", "sequence", "custom_activity_type",
                "custom_object_type", "unsubscribed_email"}
METHODS = {"created": "POST", "deleted": "DELETE"}


class Maker:
    """Makes events of one organization. The same seed makes the same ids."""

    def __init__(self, seed=None):
        self.random = random.Random(seed)
        self.now = time.time
        self.organization = self.id("orga", 43)
        self.user = self.id("user", 43)
        self.user_name = self.random.choice(PEOPLE)
        self.subscription = self.id("whsub", 22)

    def id(self, prefix, length=43):
        return prefix + "_" + "".join(self.random.choices(ALPHABET, k=length))

    def event(self, object_type="lead", action="created", lead_id=None, event_id=None, **changes):
        """The event object. `changes` replace or add members."""
        family = object_type.split(".")[0]
        now = datetime.datetime.fromtimestamp(self.now(), datetime.timezone.utc)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}000"  # UTC, no zone, milliseconds
        if lead_id is None and family not in WITHOUT_LEAD:
            lead_id = self.id("lead")
        prefix = PREFIXES.get(object_type) or PREFIXES.get(family, "obj")
        object_id = lead_id if object_type == "lead" else self.id(prefix)
        data = self.data(object_type, action, object_id, lead_id, stamp)
        before = self.before(object_type, data, stamp) if action == "updated" else {}
        event = {
            "id": event_id or self.id("ev", 22),
            "date_created": stamp,
            "date_updated": stamp,
            "organization_id": self.organization,
            "user_id": self.user,
            "request_id": self.id("req", 22),
            "api_key_id": None,
            "oauth_client_id": None,
            "oauth_scope": None,
            "object_type": object_type,
            "object_id": object_id,
            "lead_id": lead_id,
            "action": action,
            "changed_fields": sorted(before),
            "meta": self.meta(object_type, action, object_id),
            "data": {} if action == "deleted" else data,
            "previous_data": data if action == "deleted" else before,
        }
        event.update(changes)
        return event

    def body(self, event):
        """The request's body, byte for byte as Close writes it: the separators and escapes of json.dumps."""
        return json.dumps({"subscription_id": self.subscription, "event": event}).encode()

    def meta(self, object_type, action, object_id):
        path = "/api/v1/" + object_type.replace(".", "/") + "/"
        meta = {"request_path": path if action == "created" else path + object_id + "/",
                "request_method": METHODS.get(action, "PUT")}
        if action == "merged":
            meta["merge_source_lead_id"] = self.id("lead")
            meta["merge_destination_lead_id"] = object_id
        return meta

    def before(self, object_type, data, stamp):
        """Of an update: what the changed members were."""
        earlier = {"date_updated": stamp[:17] + "00.000000+00:00"}
        for name in ("status_label", "name", "note", "text", "title", "status", "body_text", "value"):
            if name in data and data[name] is not None:
                earlier[name] = 0 if isinstance(data[name], (int, float)) else "before"
                break
        return earlier

    def data(self, object_type, action, object_id, lead_id, stamp):
        zoned = stamp + "+00:00"
        data = {
            "id": object_id,
            "organization_id": self.organization,
            "date_created": zoned,
            "date_updated": zoned,
            "created_by": self.user,
            "created_by_name": self.user_name,
            "updated_by": self.user,
            "updated_by_name": self.user_name,
        }
        if lead_id and object_type != "lead":
            data["lead_id"] = lead_id
        data.update(self.fields(resolved(object_type), action))
        return data

    def fields(self, object_type, action):
        """The members that an object of this type has of its own."""
        family, _, kind = object_type.partition(".")
        make = getattr(self, "_" + object_type.replace(".", "_"), None) or getattr(self, "_" + family, None)
        return make(kind, action) if make else {"name": self.name()}

    def name(self):
        return self.random.choice(NAMES)

    def person(self):
        return self.random.choice(PEOPLE)

    def _lead(self, _kind, _action):
        name = self.name()
        return {"name": name, "display_name": name, "status_id": self.id("stat"), "status_label": "Potential",
                "contact_ids": [self.id("cont")], "addresses": [], "description": "", "url": None,
                "custom." + self.id("cf"): "Phone", "custom." + self.id("cf"): ["one", "two"]}

    def _contact(self, _kind, _action):
        return {"name": self.person(), "display_name": self.person(), "title": "President",
                "emails": [{"type": "office", "email": "gob@example.com", "is_unsubscribed": False}],
                "phones": [{"type": "mobile", "phone": "+16505551234", "country": "US"}], "urls": []}

    def _opportunity(self, _kind, _action):
        value = self.random.randrange(10 ** 7)
        return {"value": value, "value_currency": "USD", "value_formatted": f"${value / 100:,.2f}", "value_period": "one_time",
                "confidence": self.random.randrange(101), "status_id": self.id("stat"), "status_label": "Active",
                "status_type": "active", "status_display_name": "Active", "contact_id": None, "contact_name": None,
                "user_id": self.user, "user_name": self.user_name, "lead_name": self.name(), "note": "", "date_won": None,
                "date_lost": None, "expected_value": value / 2}

    def _task(self, kind, action):
        return {"_type": kind, "text": "Call back", "assigned_to": self.user, "assigned_to_name": self.user_name,
                "is_complete": action == "completed", "is_dateless": False, "date": "2026-11-23", "due_date": "2026-11-23",
                "contact_id": None, "lead_name": self.name(), "object_type": None, "object_id": None, "view": None}

    def _activity(self, kind, _action):
        return {"_type": kind.title().replace("_", ""), "user_id": self.user, "user_name": self.user_name,
                "contact_id": None, "activity_at": "2026-11-23T10:00:00.000000+00:00"}

    def _activity_call(self, kind, action):
        return {**self._activity(kind, action), "direction": self.random.choice(["inbound", "outbound"]),
                "disposition": "answered", "status": "completed", "duration": self.random.randrange(3600),
                "phone": "+16505551234", "local_phone": "+14155550100", "note": "", "recording_url": None,
                "voicemail_url": None, "cost": "0.0075"}

    def _activity_sms(self, kind, action):
        return {**self._activity(kind, action), "direction": "outbound", "status": "sent" if action == "sent" else "draft",
                "text": "On my way \U0001F697", "local_phone": "+14155550100", "remote_phone": "+16505551234",
                "attachments": [], "cost": None, "error_message": None}

    _activity_whatsapp_message = _activity_sms

    def _activity_email(self, kind, action):
        return {**self._activity(kind, action), "direction": "outgoing", "status": "sent" if action == "sent" else "draft",
                "subject": "Hello", "sender": "gob@example.com", "to": ["lucille@example.com"], "cc": [], "bcc": [],
                "body_text": "Hi,\r\nthere \u2013 " * 10, "body_html": "<p>Hi,<br>there &ndash;</p>" * 10, "attachments": [],
                "thread_id": self.id("acti"), "opens": [], "send_attempts": []}

    def _activity_email_thread(self, kind, action):
        return {**self._activity(kind, action), "latest_normalized_subject": "Hello", "n_emails": 2,
                "participants": [{"name": self.person(), "email": "gob@example.com"}]}

    def _activity_meeting(self, kind, action):
        status = {"canceled": "canceled", "completed": "completed", "started": "in-progress"}.get(action, "upcoming")
        return {**self._activity(kind, action), "title": "Demo", "status": status, "duration": 1800, "location": "Zoom",
                "starts_at": "2026-11-24T09:00:00.000000+00:00", "ends_at": "2026-11-24T09:30:00.000000+00:00",
                "attendees": [{"name": self.person(), "email": "gob@example.com", "status": "yes", "is_organizer": True}]}

    def _activity_note(self, kind, action):
        return {**self._activity(kind, action), "note": "They want a call\nnext week.", "note_html": "<p>They want a call</p>",
                "attachments": [], "pinned": False}

    def _activity_custom_activity(self, kind, action):
        return {**self._activity(kind, action), "custom_activity_type_id": self.id("actitype"),
                "status": self.random.choice(["draft", "published"]), "custom." + self.id("cf"): 42}

    def _activity_lead_status_change(self, kind, action):
        return {**self._activity(kind, action), "old_status_id": self.id("stat"), "old_status_label": "Potential",
                "new_status_id": self.id("stat"), "new_status_label": "Qualified"}

    def _activity_opportunity_status_change(self, kind, action):
        return {**self._activity_lead_status_change(kind, action), "opportunity_id": self.id("oppo"),
                "opportunity_value": 50000, "opportunity_value_currency": "USD", "opportunity_confidence": 50,
                "old_status_type": "active", "new_status_type": "won", "new_pipeline_id": self.id("pipe")}

    def _activity_task_completed(self, kind, action):
        return {**self._activity(kind, action), "task_id": self.id("task"), "task_text": "Call back",
                "task_assigned_to": self.user}

    def _activity_lead_merge(self, kind, action):
        return {**self._activity(kind, action), "source_lead_id": self.id("lead"), "destination_lead_id": self.id("lead")}

    def _activity_form_submission(self, kind, action):
        return {**self._activity(kind, action), "form_id": self.id("form"), "fields": [{"name": "Email", "value": "a@example.com"}]}

    def _bulk_action(self, kind, action):
        done = 3 if action == "completed" else 0
        return {"status": {"completed": "done", "paused": "paused"}.get(action, "started"), "n_leads": 3, "n_objects": 3,
                "n_leads_processed": done, "n_objects_processed": done, "query": "status:potential", "results_limit": None,
                "send_done_email": True, "type": kind}

    def _export(self, kind, action):
        return {"status": "done" if action == "completed" else "started", "type": kind + "s", "format": "csv", "n_docs": 3,
                "n_docs_processed": 3 if action == "completed" else 0, "query": {"type": "match_all"},
                "download_url": "https://example.com/export.csv" if action == "completed" else None}

    def _import(self, _kind, action):
        return {"status": action, "source": "csv", "n_rows": 3, "n_leads": 3, "n_contacts": 4, "n_errors": 0}

    def _membership(self, _kind, action):
        return {"user_id": self.user, "role_id": "user", "status": "active" if action == "activated" else "inactive"}

    def _group(self, _kind, _action):
        return {"name": "Sales", "members": [{"user_id": self.user}]}

    def _custom_fields(self, kind, _action):
        return {"name": "Source", "type": "choices", "choices": ["Phone", "Web"], "accepts_multiple_values": False,
                "referenced_custom_type_id": None, "applies_to": kind, "is_shared": kind == "shared"}

    def _custom_activity_type(self, _kind, _action):
        return {"name": "Site visit", "description": "", "fields": [], "is_archived": False}

    _custom_object_type = _custom_activity_type

    def _custom_object(self, _kind, _action):
        return {"name": "Contract 7", "custom_object_type_id": self.id("cotype"), "custom." + self.id("cf"): "2026-11-23"}

    def _status(self, kind, _action):
        return {"label": "Qualified", **({"type": "active", "pipeline_id": self.id("pipe")} if kind == "opportunity" else {})}

    def _email_template(self, _kind, _action):
        return {"name": "Welcome", "subject": "Hello {{ contact.first_name }}", "body": "<p>Hi</p>", "is_shared": True,
                "attachments": []}

    def _sms_template(self, _kind, _action):
        return {"name": "Reminder", "text": "See you tomorrow", "is_shared": True, "attachments": []}

    def _saved_search(self, _kind, _action):
        return {"name": "Untouched", "query": "calls:0", "s_query": {"query": {"type": "match_all"}}, "is_shared": False}

    def _phone_number(self, _kind, _action):
        return {"number": "+14155550100", "country": "US", "label": "Office", "type": "internal", "sms_enabled": True}

    def _sequence(self, _kind, _action):
        return {"name": "Outreach", "status": "active", "steps": [{"id": self.id("seqstep"), "delay": 86400, "step_type": "email"}]}

    def _sequence_subscription(self, _kind, _action):
        return {"sequence_id": self.id("seq"), "contact_id": self.id("cont"), "status": "active", "pause_reason": None}

    def _comment(self, _kind, _action):
        return {"body": "<p>Well done</p>", "thread_id": self.id("commthread"), "object_type": "activity.note",
                "object_id": self.id("acti"), "mentions": []}

    def _comment_thread(self, _kind, _action):
        return {"object_type": "activity.note", "object_id": self.id("acti"), "participants": [self.user], "n_comments": 1}

    def _unsubscribed_email(self, _kind, _action):
        return {"email": "gob@example.com", "source": "manual"}
