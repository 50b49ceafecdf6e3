// Publish one text to be sent. Needs kafkajs, which package.json names: npm install
//
// printf '+14155550123\nOrder 1 has left our harbour.' | node publish.mjs localhost:9092 harbour-books orders order-1 customer-77
import { readFileSync } from "node:fs";
import { Kafka, logLevel, Partitioners } from "kafkajs";

async function publish(broker, topic, message) {
  // The envelope: CloudEvents 1.0 in the binary mode, whose attributes are headers and whose data is the record's value.
  const headers = {
    ce_specversion: "1.0",
    ce_id: message.message_id, // unique for its source
    ce_source: `/${message.tenant}/${message.programme}`,
    ce_type: "sms.outbound.message.v1",
    ce_time: new Date().toISOString(),
    "content-type": "application/json",
  };
  const kafka = new Kafka({ clientId: "orders", brokers: [broker], logLevel: logLevel.NOTHING });
  // Puts a key into the same partition as Java's and Python's clients do.
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  try {
    // An error here leaves open whether the broker has it. Publish the same again: by its message_id it is sent once.
    await producer.send({
      topic,
      acks: -1, // all replicas that are in step
      // The key keeps one person's messages in order, and does not say who it is.
      messages: [{ key: message.recipient_ref, value: JSON.stringify(message), headers }],
    });
  } finally {
    await producer.disconnect();
  }
}

const [broker, tenant, programme, messageId, recipientRef, topic = "sms.outbound.v1"] = process.argv.slice(2);
if (recipientRef === undefined) {
  console.error("usage: publish.mjs BROKER TENANT PROGRAMME MESSAGE_ID RECIPIENT_REF [TOPIC] < number and text");
  process.exit(1);
}
const [to, ...lines] = readFileSync(0, "utf8").split("\n"); // not arguments: those are seen by all users of the machine
await publish(broker, topic, {
  message_id: messageId, // yours, unique for the tenant; the same again is the same message
  tenant,
  programme,
  category: "service", // or marketing, which needs an opt-in, or security
  to: to.trim(),
  body: lines.join("\n").trim(),
  recipient_ref: recipientRef, // your own opaque name for the person
});
