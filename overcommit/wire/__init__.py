"""What both faces speak over the control socket: the protocol, the server and the client."""
