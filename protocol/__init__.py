"""What two processes must agree on: messages, wire, sockets, config, errors, plug-ins, policy."""
