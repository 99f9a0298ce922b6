"""What the workflow's jobs share: config, logs, files, device, seeds, provenance."""
