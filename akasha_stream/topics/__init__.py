"""The Kafka topics: what they should be (topics/*.yml), what they are, and which log one is.

definition.py    topics/*.yml, validated
difference.py    definition against broker: the changes, without I/O
admin.py         plan, apply and check on a broker
broker.py        the admin requests, and what brokers without them say
incarnation.py   (cluster id, topic id): a recreated topic is another log
"""
