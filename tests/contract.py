"""What schemathesis can't learn from a schema."""

import itertools

import schemathesis

NUMBERS = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """A key is for the tries of one request, and for no other."""
    key = case.headers.get("Idempotency-Key")
    if key and len(key) <= 180:
        case.headers["Idempotency-Key"] = f"{key}{next(NUMBERS)}"


@schemathesis.hook("map_body")
def whole_numbers(context, body):
    """To JSON Schema 7.0 is a whole number. Tocsin wants it written as one."""
    if isinstance(body, dict):
        return {key: whole_numbers(context, value) for key, value in body.items()}
    if isinstance(body, list):
        return [whole_numbers(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body
