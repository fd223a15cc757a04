"""What Close does where its documents leave it open, or where a test wants it otherwise: one switch each.

The defaults are what was recorded or is documented; "not known" marks what nobody has published.
"""
import dataclasses


@dataclasses.dataclass
class Behaviour:
    # ---- subscriptions ----
    subscription_limit: int = 40
    limit_status: int = 400  # not known
    created_status: int = 201  # 200 through some proxies
    key_in_get: bool = False  # GET of one subscription and PUT show signature_key: documented, never observed
    refuses_unknown_fields: bool = True
    unknown_pair_shape: str = "named"  # not known: named, index, generic or error
    duplicate_member: str = "error"  # the member that holds the text of a duplicate: not known; "errors" is a list
    others_status: int = 403  # a key that is not an admin's, and a subscription of somebody else: not known
    list_page: int = 100  # without _limit

    # ---- rate limits ----
    rate_limit: tuple = None  # (requests, seconds) per key; None: never 429
    rate_limit_separator: str = ", "  # documented; "; " was seen live
    rate_limit_reset_is_decimal: bool = False

    # ---- delivery ----
    retry_scale: float = 0.001  # of the pauses of 1 to 20 minutes, the 72 hours and the three days
    delivery_threads: int = 4
    retries_are_signed_anew: bool = True  # not known
    keeps_queue_of_deleted: bool = False  # not known; True: late retries of a deleted subscription still come
    pause_backlog: int = 100_000
    pause_after: float = 3 * 24 * 3600.0  # seconds, scaled, without one delivery that succeeds
    pause_reason: str = "failing"  # of Close's own pauses: not known; a pause by the API is "api"
    history_length: int = 10  # not known
    consolidation_delay: float = 0.0  # seconds before updates and deletions are sent; their length is not known

    ca_file: str = None  # what Close trusts when verify_ssl is true; None: the machine's

    # ---- the Event Log ----
    log_spelling: str = "webhook"  # how the log spells what the webhook has: not known; "documented" or "older" otherwise
    log_retention: float = 30 * 24 * 3600.0
    data_for_others: float = 3600.0  # so long a key that is not an admin's sees data and previous_data
    cursor_lifetime: float = None  # seconds: not known; None: cursors do not expire by themselves

    # ---- the clock ----
    clock_skew: float = 0.0  # seconds by which Close's clock is ahead of ours
