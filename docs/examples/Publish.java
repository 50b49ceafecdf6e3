// Publish one text to be sent. Needs Java 17 (a JDK) and kafka-clients, which pom.xml beside this file fetches.
//
// printf '+14155550123\nOrder 1 has left our harbour.' |
//     java -cp 'jars/*' Publish.java localhost:9092 harbour-books orders order-1 customer-77
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

class Publish {
    public static void main(String[] given) throws Exception {
        if (given.length < 5) {
            System.err.println("usage: Publish.java BROKER TENANT PROGRAMME MESSAGE_ID RECIPIENT_REF [TOPIC] < number and text");
            System.exit(1);
        }
        // Number and text are no arguments: those are seen by all users of the machine.
        var read = (new String(System.in.readAllBytes(), "UTF-8") + "\n").split("\n", 2);
        var message = new LinkedHashMap<String, String>();
        message.put("message_id", given[3]); // yours, unique for the tenant; the same again is the same message
        message.put("tenant", given[1]);
        message.put("programme", given[2]);
        message.put("category", "service"); // or marketing, which needs an opt-in, or security
        message.put("to", read[0].strip());
        message.put("body", read[1].strip());
        message.put("recipient_ref", given[4]); // your own opaque name for the person

        // The key keeps one person's messages in order, and does not say who it is.
        var topic = given.length > 5 ? given[5] : "sms.outbound.v1";
        var event = new ProducerRecord<String, String>(topic, given[4], json(message));
        // The envelope: CloudEvents 1.0 in the binary mode, whose attributes are headers and whose data is the record's value.
        Map.of("ce_specversion", "1.0", "ce_id", given[3], "ce_source", "/" + given[1] + "/" + given[2], // the id is unique for its source
            "ce_type", "sms.outbound.message.v1", "ce_time", Instant.now().toString(), "content-type", "application/json")
            .forEach((name, text) -> event.headers().add(name, text.getBytes()));
        Map<String, Object> settings = Map.of("bootstrap.servers", given[0], "acks", "all");
        try (var producer = new KafkaProducer<String, String>(settings, new StringSerializer(), new StringSerializer())) {
            // An error here leaves open whether the broker has it. Publish the same again: by its message_id it is sent once.
            producer.send(event).get();
        }
    }

    /** Take the JSON library of your project; this one does for a map of strings. */
    static String json(Map<String, String> fields) {
        return fields.entrySet().stream().map(field -> quoted(field.getKey()) + ":" + quoted(field.getValue()))
            .collect(Collectors.joining(",", "{", "}"));
    }

    static String quoted(String text) {
        return text.chars().mapToObj(c -> c < ' ' || c == '"' || c == '\\' || c > '~' ? "\\u%04x".formatted(c) : "" + (char) c)
            .collect(Collectors.joining("", "\"", "\""));
    }
}
