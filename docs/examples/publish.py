# Publish one text to be sent. Needs aiokafka: pip install aiokafka
#
# printf '+14155550123\nOrder 1 has left our harbour.' | python publish.py localhost:9092 harbour-books orders order-1 customer-77
import asyncio
import json
import sys
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer


async def publish(broker: str, topic: str, message: dict[str, str]) -> None:
    # The envelope: CloudEvents 1.0 in the binary mode, whose attributes are headers and whose data is the record's value.
    headers = {
        "ce_specversion": "1.0",
        "ce_id": message["message_id"],  # unique for its source
        "ce_source": f"/{message['tenant']}/{message['programme']}",
        "ce_type": "sms.outbound.message.v1",
        "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "content-type": "application/json",
    }
    async with AIOKafkaProducer(bootstrap_servers=broker, acks="all") as producer:
        # An error here leaves open whether the broker has it. Publish the same again: by its message_id it is sent once.
        await producer.send_and_wait(
            topic,
            key=message["recipient_ref"].encode(),  # keeps one person's messages in order, and does not say who it is
            value=json.dumps(message).encode(),
            headers=[(name, text.encode()) for name, text in headers.items()],
        )


def main() -> None:
    if len(sys.argv) not in {6, 7}:
        sys.exit("usage: publish.py BROKER TENANT PROGRAMME MESSAGE_ID RECIPIENT_REF [TOPIC] < number and text")
    broker, tenant, programme, message_id, recipient_ref, *rest = sys.argv[1:]
    to, _, body = sys.stdin.read().partition("\n")  # not arguments: those are seen by all users of the machine
    message = {
        "message_id": message_id,  # yours, unique for the tenant; the same again is the same message
        "tenant": tenant,
        "programme": programme,
        "category": "service",  # or marketing, which needs an opt-in, or security
        "to": to.strip(),
        "body": body.strip(),
        "recipient_ref": recipient_ref,  # your own opaque name for the person
    }
    asyncio.run(publish(broker, rest[0] if rest else "sms.outbound.v1", message))


if __name__ == "__main__":
    main()
