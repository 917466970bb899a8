"""Rule 7: nothing restarted but by the lab, and no dead letter but the poison that the lab planted."""

from collections.abc import Iterator

from tests.faults.calls import Record
from tests.faults.evidence import Evidence


def check_suite(record: Record, evidence: Evidence) -> Iterator[str]:
    """Find processes that ended by themselves, and messages that were given up."""
    for component, count in evidence.restarts.items():
        if count:
            yield f"{component} was restarted {count} times by something other than the lab"
    for message_id in sorted(evidence.dead_ids - record.poison):
        yield f"message {message_id} was given up"
    for message_id in sorted(record.poison - evidence.dead_ids):
        yield f"the planted {message_id} was not set aside"
    for queue, count in evidence.dead.items():
        expected = record.poison_in.get(queue.removesuffix(".dead"), 0)
        if count != expected:
            yield f"{queue}: {count} dead letters, not the {expected} that were planted"
