"""Kafka: the only part of the gateway that imports aiokafka."""
