"""Rule 7: nothing restarted but by the lab, and no dead letter but the poison that the lab planted."""

from collections.abc import Iterator

from tests.faults.calls import Record
from tests.faults.evidence import Evidence


def check_suite(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find processes that ended by themselves, and messages that were given up."""
    for component, count in evidence.restarts.items():
        if count:
            yield f"component {component}: restarted {count} times by something other than the lab"
    for message_id in sorted(evidence.dead_ids - record.poison):
        yield f"message {message_id}: was given up"
    for message_id in sorted(record.poison - evidence.dead_ids):
        yield f"message {message_id}: planted, and not set aside"
    planted = {f"{queue}.dead": count for queue, count in record.poison_in.items()}
    # A queue that is not there any more has lost what was in it.
    for queue in sorted(planted.keys() | evidence.dead.keys()):
        count, expected = evidence.dead.get(queue, 0), planted.get(queue, 0)
        if count != expected:
            yield f"queue {queue}: {count} dead letters, not the {expected} that were planted"
