"""The local store: alerts kept on this machine, with what became known of them later."""
