"""What Home Assistant documents of MQTT discovery.

Sources: home-assistant.io/integrations/sensor.mqtt, /integrations/binary_sensor.mqtt (configuration
variables) and /integrations/mqtt ("Discovery topic", "Device", "Origin").
"""

import string

IN_TOPICS = set(string.ascii_letters + string.digits + "_-")

_OF_ENTITIES = {
    *("availability", "availability_mode", "availability_template", "availability_topic"),
    *("device", "device_class", "enabled_by_default", "encoding", "entity_category"),
    *("entity_picture", "expire_after", "force_update", "icon", "json_attributes_template"),
    *("json_attributes_topic", "name", "origin", "payload_available"),
    *("payload_not_available", "platform", "qos", "state_topic", "unique_id", "value_template"),
}
OF = {
    "sensor": _OF_ENTITIES
    | {"last_reset_value_template", "options", "state_class"}
    | {"suggested_display_precision", "unit_of_measurement"},
    "binary_sensor": _OF_ENTITIES | {"off_delay", "payload_off", "payload_on"},
}
OF_DEVICES = {
    *("configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model"),
    *("model_id", "name", "serial_number", "suggested_area", "sw_version", "via_device"),
}
OF_ORIGINS = {"name", "sw_version", "support_url"}
DEVICE_CLASSES = {"enum", "problem"}
"""Those that we use, of all that there are."""
