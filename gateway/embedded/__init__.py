"""The PostgreSQL and the Kafka-protocol broker that ``gateway run`` starts when it is given no addresses: for trying things out."""
