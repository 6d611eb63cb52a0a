"""Everything Ray: controller, worker and router actors, membership, cluster YAML, up and down."""
