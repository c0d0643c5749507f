"""What a project decides about its findings: configuration, the allow list, the baseline."""
